"""The ablations, against a dense attention that says row by row what is seen, alone and in whole pipelines."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import vsf
import vsf.attention.rows
from families.models import tiny_flux
from support import tiny_pipelines as tiny
from support.attend import attend
from support.bench_fixtures import PAIRS
from support.lockstep_oracle import unpadded_text
from vsf import tiny as embedded_model
from vsf.attention.layout import Span, TokenLayout
from vsf.bench import ablations, plan
from vsf.bench.plan import Setting
from vsf.bench.run.batch import Batch, Conditions, draw
from vsf.controls.schedule import Schedule
from vsf.errors import KnobError
from vsf.guidance import Control, convert_reference
from vsf.tiny.collapse_padding import collapse_padding
from vsf.tiny.model import DEPTH

SEEN = {  # who sees which of I, P, N⁰, N¹
    "vsf-no-mask": {"image": "IP1", "positive": "IP1", "negative": "IP01"},
    "vsf-no-duplicate": {"image": "IP1", "positive": "IP", "negative": "I1"},
    "vsf-padded": {"image": "IP1", "positive": "IP", "negative": "I0"},
    "embedding-flip": {"image": "IP0", "positive": "IP0", "negative": "IP0"},
}
FLIPS = [name for name in SEEN if name != "embedding-flip"]
EVERY = pytest.mark.parametrize("name", SEEN)
EVERY_FLIP = pytest.mark.parametrize("name", FLIPS)


def made(name, scale, offset):
    return ablations.method(name, scale=scale, **({} if name == "embedding-flip" else {"offset": offset}))


def dense(name, query, key, value, lengths, knobs, real=None):
    """[I|P|N] rows on [I|P|N⁰|N¹] keys: one softmax in float64, everything not in the table at -inf."""
    image, positive, negative = lengths
    scale, offset = knobs
    query, key, value = (each.double() for each in (query, key, value))
    copies = slice(image + positive, None)
    keys = torch.cat([key, key[:, :, copies]], 2)
    values = torch.cat([value, -scale * value[:, :, copies]], 2)
    columns = "I" * image + "P" * positive + "0" * negative + "1" * negative
    rows = ["image"] * image + ["positive"] * positive + ["negative"] * negative
    seen = torch.tensor([[column in SEEN[name][row] for column in columns] for row in rows])
    if real is not None:
        shown = torch.cat([torch.ones(len(real), image + positive, dtype=torch.bool), real, real], 1)
        seen = seen & shown[:, None, None, :]
    logits = query @ keys.mT / query.shape[-1] ** 0.5
    logits = logits - offset * torch.tensor([float(column == "1") for column in columns], dtype=torch.float64)
    return logits.masked_fill(~seen, -torch.inf).softmax(-1) @ values


def difference(one, other):
    return float((one - other).abs().max() / other.abs().max())


# One attention call ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "plain"])
@pytest.mark.parametrize("knobs", [(1.0, 0.0), (2.5, -0.6), (0.0, 1.0)], ids=str)
@EVERY
def test_the_rows_see_what_the_ablation_leaves(monkeypatch, name, knobs, fused):
    if not fused:
        monkeypatch.setattr(vsf.attention.rows, "best_kernel", lambda *_, **__: None)
    random = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 3, 20, 8, generator=random, dtype=torch.float64) for _ in range(3))
    layout = TokenLayout((Span("image", 9), Span("positive", 5), Span("negative", 6)))
    real = torch.tensor([[True] * 6, [True] * 2 + [False] * 4])
    out = attend(made(name, *knobs), query, key, value, layout, negative_valid=real, control=Control(unguided=()))
    expected = dense(name, query, key, value, (9, 5, 6), knobs, real)
    rows = torch.cat([torch.ones(2, 14, dtype=torch.bool), real], 1)
    torch.testing.assert_close(out.mT[..., rows[0]][0], expected.mT[..., rows[0]][0])
    torch.testing.assert_close(out.mT[..., rows[1]][1], expected.mT[..., rows[1]][1])


@pytest.mark.parametrize(
    ("name", "rows"),
    [("vsf-no-mask", slice(9, 20)), ("vsf-no-duplicate", slice(14, 20)), ("embedding-flip", slice(0, 20))],
)
def test_what_is_taken_out_shows_in_the_rows_that_it_was_for(name, rows):
    random = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, 3, 20, 8, generator=random, dtype=torch.float64) for _ in range(3))
    layout = TokenLayout((Span("image", 9), Span("positive", 5), Span("negative", 6)))
    whole, without = (
        attend(method, query, key, value, layout)
        for method in (vsf.ValueSignFlip(scale=2.0, offset=-0.6), made(name, 2.0, -0.6))
    )
    changed = (without - whole).abs().amax((0, 1, 3)) > 0.01
    assert changed.nonzero().flatten().tolist() == list(range(20))[rows]


# Whole pipelines ---------------------------------------------------------------------------------------------------


@torch.no_grad()
def embedded(pipe, text="a red car", **options):
    rows, _, pooled, _ = pipe.encode_prompt(text, None, None, do_classifier_free_guidance=False, **options)
    return rows, pooled


def by_hand(pipe, name, tokens, knobs, monkeypatch):
    """The stock pipeline on [P|N], its joint attention replaced by the dense one."""
    text, pooled = embedded(pipe, max_sequence_length=24)
    stock, pictures = F.scaled_dot_product_attention, 64
    lengths = (pictures, text.shape[1], tokens.shape[1])

    def attention(query, key, value, *args, **options):
        if query.shape[2] != sum(lengths):  # the image's attention to itself
            return stock(query, key, value, *args, **options)
        return dense(name, query, key, value, lengths, knobs).to(query.dtype)

    with monkeypatch.context() as patch:
        patch.setattr(F, "scaled_dot_product_attention", attention)
        longer = torch.cat([text, tokens], 1)
        return tiny.call(pipe, None, prompt_embeds=longer, pooled_prompt_embeds=pooled)


def guided(pipe, method, negatives=("wheels",), **settings):
    with vsf.guide(pipe, **ablations.negative_arguments(method, pipe, negatives), method=method):
        return tiny.call(pipe, **settings)


@pytest.mark.parametrize("t5", [True, False], ids=["t5", "no t5"])
@EVERY_FLIP
def test_a_guided_pipeline_agrees_with_the_stock_one_on_a_dense_attention(monkeypatch, name, t5):
    pipe = tiny.sd3(t5=t5)
    tokens = embedded(pipe, "wheels")[0] if name == "vsf-padded" else unpadded_text(pipe, "wheels")
    assert tokens.shape[1] == (77 + 256 if name == "vsf-padded" else 16 if t5 else 8)
    expected = by_hand(pipe, name, tokens, (2.0, -0.6), monkeypatch)
    out = guided(pipe, made(name, 2.0, -0.6))
    assert difference(out, expected) <= 1e-6
    assert difference(out, tiny.call(pipe)) > 1e-3
    assert difference(out, guided(pipe, vsf.ValueSignFlip(scale=2.0, offset=-0.6))) > 1e-4


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.0])
def test_the_embedding_flip_is_the_stock_pipeline_on_a_longer_prompt(scale):
    pipe = tiny.sd3()
    text, pooled = embedded(pipe, max_sequence_length=24)
    longer = torch.cat([text, -scale * embedded(pipe, "wheels")[0]], 1)
    expected = tiny.call(pipe, None, prompt_embeds=longer, pooled_prompt_embeds=pooled)
    out = guided(pipe, made("embedding-flip", scale, None))
    assert difference(out, expected) <= 1e-6
    assert difference(out, tiny.call(pipe)) > 1e-3


@EVERY_FLIP
def test_an_infinite_offset_leaves_the_picture_alone(name):
    pipe = tiny.sd3()
    assert torch.equal(guided(pipe, made(name, 2.0, float("inf"))), tiny.call(pipe))


@EVERY
def test_an_empty_negative_prompt_changes_nothing(name):
    pipe = tiny.sd3()
    assert torch.equal(guided(pipe, made(name, 2.0, -0.6), [""]), tiny.call(pipe))


@EVERY
def test_a_folded_pipeline_draws_the_same_picture(name):
    method, drawn = made(name, 2.0, -0.6), []
    for folded in (False, True):
        pipe = embedded_model.load()
        pipe.set_progress_bar_config(disable=True)
        if folded:
            collapse_padding(pipe)
        with vsf.guide(pipe, **ablations.negative_arguments(method, pipe, ["wheels"]), method=method) as report:
            drawn.append(tiny.call(pipe, height=64, width=64, max_sequence_length=256))
        assert report.tokens == ((24 + 256,) if name in ("vsf-padded", "embedding-flip") else (3,))
    assert difference(drawn[1], drawn[0]) <= 1e-4


def test_without_mask_and_duplicate_it_is_a_part_of_the_prompt_turned_around(monkeypatch):
    both = {"image": "IP1", "positive": "IP1", "negative": "IP1"}
    monkeypatch.setitem(SEEN, "both", both)
    pipe = tiny.sd3()
    expected = by_hand(pipe, "both", unpadded_text(pipe, "wheels"), (1.5, 0.0), monkeypatch)
    assert difference(guided(pipe, vsf.NegativeInPrompt(scale=1.5)), expected) <= 1e-6


@EVERY
def test_a_model_of_another_family_is_refused(name):
    method = made(name, 2.0, -0.6)
    with pytest.raises(KnobError, match=f'"{name}" exists for sd3 only, not for flux'):
        ablations.negative_arguments(method, tiny_flux.pipeline(), ["wheels"])


# Benchmark ---------------------------------------------------------------------------------------------------------


@EVERY
def test_prompts_drawn_together_are_drawn_as_alone(name):
    pipe, conditions = tiny.sd3(t5=False, patch_size=2), Conditions(model="random", size=(16, 16))
    knobs = {"scale": 2.0} if name == "embedding-flip" else {"scale": 2.0, "offset": -0.6}
    setting = Setting(label="a", method=name, knobs=knobs, steps=2)
    pairs = tuple(
        pair.__class__(**{**vars(pair), "negative": text})
        for pair, text in zip(PAIRS, ["wheels", "", "a very old tree"], strict=False)
    )
    together = draw(pipe, Batch(setting, pairs, 0, "random", "r"), conditions)
    plain = draw(pipe, Batch(Setting(label="n", method="none", steps=2), pairs, 0, "random", "r"), conditions)
    for pair, (image,), (unguided,) in zip(pairs, together, plain, strict=True):
        ((alone,),) = draw(pipe, Batch(setting, (pair,), 0, "random", "r"), conditions)
        assert np.abs(np.asarray(alone, int) - np.asarray(image, int)).max() <= 1
        assert (np.asarray(image) == np.asarray(unguided)).all() == (pair.negative == "")


def test_the_identity_of_a_setting_names_ablation_and_knobs():
    identity = Setting(label="a", method="vsf-no-mask", knobs={"scale": 2.0}).identity()
    assert identity["method"] == "vsf-no-mask"
    assert identity["knobs"] == {"scale": 2.0, "offset": 0.0}


@pytest.mark.parametrize(
    ("name", "knobs", "message"),
    [
        ("vsf-no-mask", {"layout": "reference"}, 'ablation "vsf-no-mask" has no knob "layout"'),
        ("embedding-flip", {"offset": 1.0}, 'ablation "embedding-flip" has no knob "offset"'),
        ("embedding-flip", {"scale": "auto"}, "one scale for the whole run"),
        ("vsf-padded", {"scale": -1.0}, "scale is a number from 0 to 10"),
    ],
)
def test_what_an_ablation_does_not_have_is_refused(name, knobs, message):
    with pytest.raises(ValueError, match=message):
        Setting(label="a", method=name, knobs=knobs)


# The plan ----------------------------------------------------------------------------------------------------------

PLAN = Path(__file__).parents[2] / "benchmarks" / "plans" / "tiny-ablations.toml"
SETTINGS = {setting.label: setting for setting in plan.read(PLAN).settings}
SCALES = ("2", "3.5")


def test_the_plan_has_every_ablation_at_the_scales_of_the_method_itself():
    methods = {
        "vsf": "vsf",
        "no offset": "vsf",
        "no mask": "vsf-no-mask",
        "no duplicate": "vsf-no-duplicate",
        "padded negative": "vsf-padded",
        "whole-embedding flip": "embedding-flip",
    }
    assert set(ablations.ABLATIONS) < set(methods.values())
    for scale in SCALES:
        whole = SETTINGS[f"vsf scale={scale}"].guidance()
        for label, method in methods.items():
            setting = SETTINGS[f"{label} scale={scale}"]
            assert (setting.method, setting.when()) == (method, Schedule())
            assert setting.guidance().scale == float(scale)
            expected = 0.0 if label == "no offset" else whole.offset
            assert getattr(setting.guidance(), "offset", expected) == expected
        stripped = SETTINGS[f"special tokens stripped scale={scale}"].guidance()
        assert stripped == replace(whole, special_tokens="strip")


def test_the_plan_has_the_settings_that_convert_to_those_of_the_paper_layout():
    for scale in SCALES:
        whole = SETTINGS[f"vsf scale={scale}"].guidance()
        code = SETTINGS[f"layout of the authors' code scale={scale}"].guidance()
        assert code.layout == "reference"
        assert convert_reference(code.scale, code.offset) == pytest.approx((whole.scale, whole.offset), abs=5e-4)


def test_the_windows_of_the_plan_share_out_the_steps_and_the_layers():
    for scale in SCALES:
        whole = SETTINGS[f"vsf scale={scale}"]
        windows = [one for one in SETTINGS.values() if one.schedule and one.label.endswith(f" scale={scale}")]
        assert all(window.guidance() == whole.guidance() for window in windows)
        steps = [window.when() for window in windows if window.label.startswith("steps")]
        layers = [window.when() for window in windows if window.label.startswith("layer")]
        assert len(steps) + len(layers) == len(windows)
        for step in range(whole.steps):
            assert sum(window.strength(step / whole.steps) for window in steps) == 1
        for layer in range(DEPTH):
            assert sum(window.acts_on(layer, DEPTH) for window in layers) == 1
