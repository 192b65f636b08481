"""Which batch row belongs to which prompt, read off the denoiser call."""

import pytest
import torch

import vsf
from families.harness import difference
from families.models import tiny_hidream, tiny_unet
from support import tiny_pipelines as tiny
from vsf.families.sd3 import StableDiffusion3
from vsf.runtime.cfg_rows import CfgRows

STRONG = vsf.ValueSignFlip(scale=2.0, offset=0.1)
PROMPTS, NEGATIVES = ["a red car", "two old dogs"], ["wheels", "an old tree"]


def texts(*numbers):
    """A text for each row; the same number is the same text."""
    return {"encoder_hidden_states": torch.stack([torch.full((4, 8), float(number)) for number in numbers])}


def row_to_prompt(rows, *numbers):
    return rows.row_to_prompt(texts(*numbers), [True] * len(numbers), 2)


def rows_of(prompts, **arguments):
    return CfgRows(StableDiffusion3(), None, {"prompt": prompts, **arguments})


def test_rows_of_a_whole_batch_are_told_by_their_texts():
    assert row_to_prompt(rows_of(PROMPTS), 5, 7) == [0, 1]
    assert row_to_prompt(rows_of(PROMPTS, num_images_per_prompt=2), 5, 5, 7, 7) == [0, 0, 1, 1]


def test_copies_may_stand_one_round_after_the_other():
    assert row_to_prompt(rows_of(PROMPTS, num_images_per_prompt=2), 5, 7, 5, 7) == [0, 1, 0, 1]


def test_a_number_of_copies_that_the_pipeline_ignores_does_not_matter():
    assert row_to_prompt(rows_of(PROMPTS, num_videos_per_prompt=3), 5, 7) == [0, 1]


def test_prompts_taken_one_by_one_are_counted_as_they_come():
    rows = rows_of(PROMPTS)
    assert [row_to_prompt(rows, *call) for call in [(5, 5), (5, 5), (7, 7), (7, 7)]] == [[0, 0]] * 2 + [[1, 1]] * 2


def test_texts_may_change_between_the_steps_of_a_whole_batch():
    rows = rows_of(PROMPTS)
    assert [row_to_prompt(rows, *call) for call in [(5, 7), (6, 8)]] == [[0, 1], [0, 1]]


def test_texts_beyond_the_prompts_are_refused_with_what_to_do():
    rows = rows_of(PROMPTS)
    row_to_prompt(rows, 5, 5)
    row_to_prompt(rows, 7, 7)
    with pytest.raises(vsf.LayoutError, match="call the pipeline once for each prompt"):
        row_to_prompt(rows, 9, 9)


def test_equal_prompts_are_told_by_their_number_alone():
    rows = rows_of(["a car", "a car"], num_images_per_prompt=2)
    assert row_to_prompt(rows, 5, 5, 5, 5) == [0, 0, 1, 1]
    with pytest.raises(vsf.LayoutError, match="2 conditional rows cannot be told apart by the 2 prompts"):
        row_to_prompt(rows, 5, 5)


def test_rows_without_a_prompt_have_no_owner():
    rows = rows_of(PROMPTS)
    assert rows.row_to_prompt(texts(1, 1, 5, 7), [False, False, True, True], 2) == [None, None, 0, 1]
    assert rows.row_to_prompt(texts(1, 1, 5, 7), [False, False, True, True], 1) == [None, None, 0, 0]


@pytest.mark.parametrize(
    ("arguments", "prompts"),
    [
        ({"prompt": "a car"}, 1),
        ({"prompt": ["a car", "a hat"]}, 2),
        ({"prompt": {0: "a car", 8: "a hat"}}, 1),
        ({"prompt_embeds": torch.zeros(3, 4, 8)}, 3),
        ({"prompt_embeds": [torch.zeros(4, 8)] * 2}, 2),
        ({"prompt_embeds_mask": torch.zeros(4, 8), "prompt_embeds_llama3": torch.zeros(5, 2, 4, 8)}, 1),
        ({"prompt_embeds_llama3": torch.zeros(5, 2, 4, 8), "prompt_embeds_t5": torch.zeros(2, 4, 8)}, 2),
        ({}, 1),
    ],
)
def test_prompts_are_counted_however_they_are_given(arguments, prompts):
    assert CfgRows(StableDiffusion3(), None, arguments).prompts == prompts


class OneByOne(tiny.StableDiffusion3Pipeline):
    """Loops over its prompts inside, and makes two pictures of each."""

    def __call__(self, prompt, latents, **settings):
        pictures = []
        for number, own in enumerate(prompt):
            some = {**settings, "latents": latents[2 * number : 2 * number + 2], "num_images_per_prompt": 2}
            pictures.append(super().__call__(own, **some)[0])
        return (torch.cat(pictures),)


def test_a_pipeline_that_loops_over_its_prompts_gives_each_its_own_negative():
    pipe, latents = tiny.sd3(OneByOne), torch.randn(4, 4, 8, 8)
    with vsf.guide(pipe, NEGATIVES, method=STRONG):
        together = pipe(prompt=PROMPTS, latents=latents, **tiny.SETTINGS)[0]
    for number, negative in enumerate(NEGATIVES):
        with vsf.guide(pipe, negative, method=STRONG):
            half = slice(2 * number, 2 * number + 2)
            alone = pipe(prompt=PROMPTS[number : number + 1], latents=latents[half], **tiny.SETTINGS)[0]
        assert difference(together[half], alone) <= 1e-6


def test_a_video_of_several_prompts_is_one_video():
    pipe = tiny_unet.animatediff()
    pipe.enable_free_noise(context_length=4, context_stride=2)
    settings = {**tiny_unet.SETTINGS, "num_frames": 8, "num_inference_steps": 1, "generator": torch.Generator()}
    prompts = {0: "a red car", 7: "two old dogs"}

    def draw():
        settings["generator"].manual_seed(0)
        return pipe(prompt=prompts, **settings).frames

    plain = draw()
    with vsf.guide(pipe, "wheels", method=vsf.ValueSignFlip(offset=float("inf"))):
        assert torch.equal(draw(), plain)
    with vsf.guide(pipe, ["wheels"], method=STRONG):
        assert difference(draw(), plain) > 1e-4


def test_embeddings_of_several_encoders_are_counted():
    case = next(case for case in tiny_hidream.PIPELINES)
    pipe = case.build()
    with torch.no_grad():
        t5, _, llama, _, pooled, *_ = pipe.encode_prompt(
            PROMPTS, do_classifier_free_guidance=False, max_sequence_length=case.settings["max_sequence_length"]
        )
    given = {"prompt_embeds_t5": t5, "prompt_embeds_llama3": llama, "pooled_prompt_embeds": pooled}
    with vsf.guide(pipe, NEGATIVES, method=STRONG):
        got = case.run(pipe, None, **given)
        expected = case.run(pipe, PROMPTS)
    assert difference(got, expected) <= 1e-6
