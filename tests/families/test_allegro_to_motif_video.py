"""What is special to the families that came after Kandinsky 6, and what they refuse."""

from dataclasses import replace
from functools import partial

import pytest
import torch

import vsf
from families.harness import STRONG, difference
from families.models import tiny_easyanimate, tiny_helios, tiny_joyimage, tiny_joyimage_plus, tiny_motif_video

HISTORY = tiny_helios.CASES[0]


def test_a_history_of_helios_that_attends_to_the_text_is_guided_too_and_rules_out_masks():
    model = tiny_helios.transformer(guidance_cross_attn=False)
    text, negative = HISTORY.text(), vsf.Negative((HISTORY.text(7, seed=100)[0],))
    plain = HISTORY.run(model, text)
    with vsf.guide(model, negative=negative, method=STRONG):
        assert difference(HISTORY.run(model, text), plain) > 1e-4
    with (
        pytest.raises(vsf.KnobError, match="a Helios whose history attends to the text"),
        vsf.guide(model, negative=negative, method=STRONG, mask=torch.ones(2, 3)),
    ):
        HISTORY.run(model, text)


def test_the_steps_of_a_pyramid_have_no_schedule():
    variant = tiny_helios.VARIANTS[0]
    pipe = variant.build()
    with (
        pytest.raises(vsf.KnobError, match="counted anew at every size"),
        vsf.guide(pipe, "wheels", method=STRONG, schedule=vsf.Schedule(end=0.5)),
    ):
        pipe("a red car", **variant.settings)


MORE_TEXT = {
    "easyanimate": (tiny_easyanimate.CASES[0], "encoder_hidden_states_t5", "guided with one text"),
    "motif_video": (tiny_motif_video.CASES[0], "image_embeds", "guided without image_embeds"),
}


@pytest.mark.parametrize("name", MORE_TEXT)
def test_tokens_beside_the_text_that_no_guided_pipeline_gives_are_refused(name):
    case, argument, reason = MORE_TEXT[name]
    model, text, negative = case.model(), case.text(), vsf.Negative((case.text(7, seed=100)[0],))
    with pytest.raises(vsf.LayoutError, match=reason), vsf.guide(model, negative=negative, method=STRONG):
        model(**case.inputs(text), **{argument: text})


WITH_OTHER_PICTURES = {
    "joyimage": (tiny_joyimage.CASES[1], partial(tiny_joyimage.inputs, pictures=2)),
    "joyimage_plus": (
        tiny_joyimage_plus.CASES[0],
        partial(tiny_joyimage_plus.inputs, shapes=((1, 2, 3), (1, 2, 2)), padding=2),
    ),
}


@pytest.mark.parametrize("name", WITH_OTHER_PICTURES)
def test_pictures_to_edit_attend_as_the_picture_does_and_are_outside_of_masks(name):
    case, inputs = WITH_OTHER_PICTURES[name]
    case = replace(case, inputs=inputs)
    model, text, negative = case.model(), case.text(), case.text(case.negative, seed=100)
    for_all = vsf.Negative((negative[0],))
    with vsf.guide(model, negative=for_all, method=STRONG, observe=True) as report:
        assert difference(case.run(model, text), case.oracle(text, negative, STRONG)) <= case.tolerance
    assert report.heat_map().shape == (2, 3)
    plain = case.run(model, text)
    with vsf.guide(model, negative=for_all, method=STRONG, mask=torch.zeros(2, 3)):
        assert torch.equal(case.run(model, text), plain)
