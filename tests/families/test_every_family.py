"""What holds for every family: its denoiser against the lockstep oracle, and its pipelines from the text on."""

from math import log

import pytest
import torch
from torch._dynamo.testing import CompileCounter

import vsf
from families.harness import (
    NEGATIVE,
    OFF,
    STRONG,
    Case,
    DenoiserRows,
    PipelineCase,
    Variant,
    call,
    difference,
    registered,
)
from vsf.families import FAMILIES
from vsf.guidance import METHODS
from vsf.text.embeddings import Share

CASES: list[Case] = registered("CASES")
PIPELINES: list[PipelineCase] = registered("PIPELINES")
VARIANTS: list[Variant] = registered("VARIANTS")

every_case = pytest.mark.parametrize("case", CASES, ids=str)
every_pipeline = pytest.mark.parametrize("case", PIPELINES, ids=str)
_models = {}


def model_of(case):
    """The model of a case, made once: no test may leave a trace on it."""
    if str(case) not in _models:
        _models[str(case)] = case.model()
    return _models[str(case)]


def negative_of(case, *tokens, seed=100, **options):
    """One negative of so many random tokens for each row."""
    return vsf.Negative(tuple(case.text(count, seed + row)[0] for row, count in enumerate(tokens)), **options)


def guided(case, text, negative, method=STRONG, **options):
    model = model_of(case)
    with vsf.guide(model, negative=negative, method=method, **options):
        return case.run(model, text)


def test_every_family_has_a_case():
    assert set(FAMILIES) == {case.family for case in CASES} | {"sd3"}  # sd3 has tests of its own


# Denoisers --------------------------------------------------------------------------------------------------------


@every_case
def test_a_denoiser_guided_by_nothing_returns_the_same_to_the_last_bit(case):
    text = case.text(rows=2)
    plain = case.run(model_of(case), text)
    assert torch.equal(guided(case, text, negative_of(case, NEGATIVE, 0), OFF), plain)


@every_case
def test_a_denoiser_agrees_with_two_runs_in_lockstep(case):
    text, negative = case.text(), case.text(case.negative, seed=100)
    got = guided(case, text, vsf.Negative((negative[0],)))
    assert difference(got, case.oracle(text, negative, STRONG)) <= case.tolerance
    assert difference(got, case.run(model_of(case), text)) > 1e-4


@every_case
def test_rows_with_negatives_of_different_length_are_what_each_is_alone(case):
    text, negative = case.text(rows=3), negative_of(case, NEGATIVE, 0, 3)
    together = guided(case, text, negative)
    alone = [guided(case, text[row : row + 1], vsf.Negative((negative.embeddings[row],))) for row in range(3)]
    assert difference(together, torch.cat(alone)) <= 1e-5
    assert torch.equal(together[1], case.run(model_of(case), text)[1])


@every_case
def test_negatives_of_one_prompt_do_not_see_each_other(case):
    text, (one, other) = case.text(), negative_of(case, 3, 5).embeddings
    either = vsf.Negative((torch.cat([one, other]),), shares=((Share(3), Share(5)),))
    turned = vsf.Negative((torch.cat([other, one]),), shares=((Share(5), Share(3)),))
    assert difference(guided(case, text, either), guided(case, text, turned)) <= 1e-5


@every_case
def test_the_weight_of_a_negative_is_an_offset(case):
    text, method = case.text(), vsf.ValueSignFlip(scale=2.0, offset=0.1 + log(2))
    half = negative_of(case, NEGATIVE, shares=((Share(NEGATIVE, 0.5),),))
    assert difference(guided(case, text, half), guided(case, text, negative_of(case, NEGATIVE), method)) <= 1e-5


@every_case
def test_every_method_guides_and_leaves_nothing_behind(case):
    model, text = model_of(case), case.text()
    plain = case.run(model, text)
    processors = {name: part.processor for name, part in model.named_modules() if hasattr(part, "processor")}
    classes = [type(part) for part in model.modules()]
    for name in METHODS:
        out = guided(case, text, negative_of(case, NEGATIVE), name)
        assert out.isfinite().all()
        if METHODS[name].model_calls == 1:  # those with two need the pipeline's second call
            assert torch.equal(out, plain) == (name == "none"), name
    assert [type(part) for part in model.modules()] == classes
    assert all(part.processor is processors[name] for name, part in model.named_modules() if name in processors)
    assert torch.equal(case.run(model, text), plain)


@every_case
def test_a_mask_and_the_heat_map_have_the_shape_of_the_picture(case):
    model, text, negative = model_of(case), case.text(), negative_of(case, NEGATIVE)
    if case.grid is None:
        for option in ({"observe": True}, {"mask": torch.ones(4, 6)}):
            with pytest.raises(vsf.KnobError, match=r"mask=, observe= and .* do not work"):
                guided(case, text, negative, **option)
        return
    with vsf.guide(model, negative=negative, method=STRONG, observe=True) as report:
        everywhere = case.run(model, text)
    assert report.heat_map().shape == case.grid
    assert (report.heat_map() > 0).all()
    sides = case.grid[-2:]
    assert (difference(guided(case, text, negative, mask=torch.ones(sides)), everywhere) <= 1e-5) == case.alone
    mask = torch.zeros(sides)
    mask[0, -1] = 1
    assert difference(guided(case, text, negative, mask=mask), case.run(model, text)) > 0


@pytest.mark.families
@every_case
def test_a_compiled_denoiser_is_guided_alike(case):
    text, negative = case.text(rows=2), negative_of(case, NEGATIVE, 3)
    expected = guided(case, text, negative)
    torch._dynamo.reset()
    compiled = torch.compile(case.model(), backend="eager")
    with vsf.guide(compiled, negative=negative, method=STRONG):
        assert difference(case.run(compiled, text), expected) <= 1e-5


# Pipelines --------------------------------------------------------------------------------------------------------


@every_pipeline
def test_a_pipeline_is_guided_and_otherwise_unchanged(case):
    pipe = case.build()
    plain = case.run(pipe)
    with vsf.guide(pipe, "wheels", method=OFF):
        assert torch.equal(case.run(pipe), plain)
    with vsf.guide(pipe, "wheels", method=STRONG) as report:
        assert difference(case.run(pipe), plain) > 1e-4
    assert report.calls
    assert torch.equal(case.run(pipe), plain)


@pytest.mark.families
@every_pipeline
def test_one_set_of_graphs_serves_other_negatives_and_strengths(case):
    if not case.compiles_once:
        pytest.xfail("parts that are stood in for are compiled once more for another length of the negative")
    torch._dynamo.reset()
    pipe, counter = case.build(), CompileCounter()
    getattr(pipe, case.denoiser).compile(backend=counter, dynamic=False)
    vsf.attach(pipe, method=STRONG)
    case.run(pipe, negative_prompt="wheels")
    graphs = counter.frame_count
    assert graphs
    vsf.attach(pipe, method=vsf.ValueSignFlip(scale=3.0))
    case.run(pipe, negative_prompt="hat")
    assert counter.frame_count == graphs


@every_pipeline
def test_a_negative_is_encoded_from_its_real_tokens_alone(case):
    pipe = case.build()
    with torch.no_grad():
        expected = case.text(pipe, "wheels")
    torch.testing.assert_close(vsf.encode(pipe, "wheels").embeddings[0], expected, rtol=0, atol=1e-6)


@every_pipeline
def test_begin_and_end_marks_are_known(case):
    assert vsf.encode(case.build(), "ab").special[0].tolist() == case.special


@every_pipeline
def test_a_negative_is_read_in_a_context_where_it_is_known_which_tokens_it_becomes(case):
    pipe = case.build()
    if not case.knows_characters:
        with pytest.raises(vsf.KnobError, match="picked out of within="):
            vsf.encode(pipe, "red", within="a {} car")
        return
    whole, inside = (vsf.encode(pipe, *given) for given in (("a red car",), ("red", "a {} car")))
    rows = [int(torch.isclose(whole.embeddings[0], row).all(1).nonzero()[0]) for row in inside.embeddings[0]]
    assert rows == sorted(set(rows))
    assert len(inside.embeddings[0][~inside.special[0]]) < len(whole.embeddings[0][~whole.special[0]])
    assert inside.special[0].sum() == whole.special[0].sum()


@every_pipeline
def test_freed_encoders_are_named_as_the_reason(case):
    pipe = case.build()
    for name in case.encoders:
        setattr(pipe, name, None)
    with pytest.raises(vsf.PromptError, match="encode before freeing them"):
        vsf.encode(pipe, "wheels")


@pytest.mark.parametrize("case", [case for case in PIPELINES if case.cfg is not None], ids=str)
def test_the_unconditional_half_of_classifier_free_guidance_is_left_alone(case):
    pipe = case.build()
    recorder = DenoiserRows(getattr(pipe, case.denoiser))
    settings = {**case.cfg, "num_inference_steps": 1}
    case.run(pipe, **settings)
    plain, recorder.rows = recorder.rows, []
    with vsf.guide(pipe, "wheels", method=STRONG):
        case.run(pipe, **settings)
    assert len(recorder.rows) == len(plain)
    rows = len(case.unconditional)
    same = tuple(torch.equal(*pair) for pair in zip(recorder.rows[:rows], plain[:rows], strict=True))
    assert same == case.unconditional


@pytest.mark.parametrize("case", [case for case in PIPELINES if case.latents is not None], ids=str)
def test_a_batch_of_prompts_is_what_each_image_is_alone(case):
    pipe, negatives = case.build(), ["wheels", "an old tree"]
    copies = {case.copies: 2} if case.copies else {}
    each = 1 + len(copies)
    latents = torch.randn(2 * each, *case.latents, generator=torch.Generator().manual_seed(3))
    with vsf.guide(pipe, negatives, method=STRONG):
        together = case.run(pipe, list(case.prompts), latents=latents.clone(), **copies)
    alone = []
    for image in range(2 * each):
        with vsf.guide(pipe, negatives[image // each], method=STRONG):
            alone.append(case.run(pipe, case.prompts[image // each], latents=latents[image : image + 1].clone()))
    assert difference(together, torch.cat(alone)) <= 1e-5


@pytest.mark.families
@pytest.mark.parametrize("case", VARIANTS, ids=str)
def test_every_pipeline_of_a_family_is_guided_and_otherwise_unchanged(case):
    pipe = case.build()
    plain = call(pipe, case.prompt, **case.settings)
    with vsf.guide(pipe, "wheels", method=OFF):
        assert torch.equal(call(pipe, case.prompt, **case.settings), plain)
    with vsf.guide(pipe, "wheels", method=STRONG) as report:
        assert difference(call(pipe, case.prompt, **case.settings), plain) > 1e-4
    assert report.calls
