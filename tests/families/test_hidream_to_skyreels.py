"""What is special to HiDream, ERNIE-Image, LongCat, Kolors, Kandinsky 6 and SkyReels-V2, and what is refused."""

from dataclasses import replace

import pytest
import torch

import vsf
from families.harness import STRONG, difference, noise
from families.models import tiny_ernie, tiny_flux_like, tiny_hidream, tiny_kandinsky6, tiny_kolors, tiny_skyreels_v2
from support import host
from vsf.families import FAMILIES, find_family
from vsf.families.catalogue.unsupported import UNSUPPORTED_DENOISERS


def test_a_square_picture_of_hidream_has_no_filling():
    family, model = FAMILIES["hidream"], tiny_hidream.transformer()
    given = {**tiny_hidream.inputs(torch.zeros(1, 5, tiny_hidream.CASES[0].channels))}
    (wide,) = family.spans(model, given)
    (square,) = family.spans(model, {**given, "hidden_states": noise(1, 4, 8, 8)})
    told = {**given, "hidden_states": noise(1, 32, 16), "img_sizes": torch.tensor([[4, 6]])}
    (patches,) = family.spans(model, told)
    lengths = [[span.length for span in spans] for spans in (wide, square, patches)]
    assert lengths == [[24, 8, 15], [16, 0, 15], [24, 8, 15]]


def test_a_square_picture_of_hidream_agrees_with_two_runs_in_lockstep():
    def square(text):
        return {**tiny_hidream.inputs(text), "hidden_states": noise(1, 4, 8, 8).expand(len(text), -1, -1, -1)}

    case = tiny_hidream.CASES[0]
    case = replace(case, inputs=square, layers=dict.fromkeys(case.layers, ("image", "text")))
    text, negative = case.text(), case.text(case.negative, seed=100)
    with vsf.guide(model := case.model(), negative=vsf.Negative((negative[0],)), method=STRONG):
        assert difference(case.run(model, text), case.oracle(text, negative, STRONG)) <= case.tolerance


def test_prompts_of_ernie_of_different_length_in_a_batch_are_what_each_is_alone():
    model, lengths = tiny_ernie.transformer(), (12, 9, 5)
    text = noise(3, 12, 16)
    negative = vsf.Negative((noise(7, 16, seed=2), torch.zeros(0, 16), noise(3, 16, seed=3)))

    def run(rows, own, longest):
        given = {**tiny_ernie.inputs(text[rows, :longest]), "text_lens": torch.tensor(lengths)[rows]}
        with torch.no_grad(), vsf.guide(model, negative=own, method=STRONG):
            return model(**given, return_dict=False)[0]

    together = run(slice(0, 3), negative, 12)
    for row, length in enumerate(lengths):
        alone = run(slice(row, row + 1), vsf.Negative((negative.embeddings[row],)), length)
        assert difference(together[row], alone[0]) <= 1e-5


def test_longcat_reads_what_is_in_quotes_letter_by_letter():
    pipe = tiny_flux_like.longcat_pipeline()
    pipe.tokenizer.add_tokens(["bc"])
    assert [len(vsf.encode(pipe, text).embeddings[0]) for text in ("abc", 'a"bc"')] == [2, 5]


def test_the_tokenizer_of_longcat_pads_again_after_a_negative_was_read():
    pipe = tiny_flux_like.longcat_pipeline()
    vsf.encode(pipe, "wheels")
    assert pipe.encode_prompt("wheels")[0].shape[1] == pipe.tokenizer_max_length


def test_a_unet_on_its_own_is_not_taken_for_that_of_kolors():
    pipe = tiny_kolors.pipeline()
    assert (find_family(pipe).name, find_family(pipe.unet).name) == ("kolors", "unet")


def test_words_of_a_positive_prompt_of_kolors_cannot_be_weighed():
    with pytest.raises(vsf.KnobError, match="not known which tokens"):
        FAMILIES["kolors"].characters(tiny_kolors.pipeline(), "a red car")


def test_the_picture_that_a_clip_of_kandinsky6_starts_from_is_none_of_its_frames():
    family, model = FAMILIES["kandinsky6"], tiny_kandinsky6.transformer()
    clip = tiny_kandinsky6.inputs(torch.zeros(1, 5, 16))
    assert family.grid(model, clip).frames == 2
    assert family.grid(model, {**clip, "visual_token_type_ids": torch.tensor([[0, 1]])}).frames == 1


def test_skyreels_v2_has_a_schedule():
    pipe = tiny_skyreels_v2.pipeline()
    with vsf.guide(pipe, "wheels", method=STRONG, schedule=vsf.Schedule(end=0.5)) as report:
        tiny_skyreels_v2.PIPELINES[0].run(pipe)
    assert (report.steps, report.skipped) == (1, 1)


def test_frames_that_are_not_equally_far_have_no_schedule():
    pipe = tiny_skyreels_v2.forced()
    with (
        pytest.raises(vsf.KnobError, match="end and curve"),
        vsf.guide(pipe, "wheels", method=STRONG, schedule=vsf.Schedule(end=0.5)),
    ):
        tiny_skyreels_v2.PIPELINES[1].run(pipe)


@pytest.mark.parametrize("name", UNSUPPORTED_DENOISERS)
def test_denoisers_that_cannot_be_guided_are_refused_with_the_reason(name):
    assert hasattr(host, name)
    with pytest.raises(vsf.UnsupportedPipelineError, match=f"{name} cannot be guided: "):
        find_family(type(name, (torch.nn.Module,), {})())


def test_the_editing_pipeline_of_longcat_is_refused_with_the_reason():
    pipe = type("LongCatImageEditPipeline", (), {"components": {"transformer": tiny_flux_like.longcat()}})()
    assert hasattr(host, "LongCatImageEditPipeline")
    with pytest.raises(vsf.UnsupportedPipelineError, match="together with a picture"):
        vsf.attach(pipe)
