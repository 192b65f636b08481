"""What sets the methods apart."""

import subprocess
import sys
from itertools import pairwise
from math import inf

import pytest
import torch
import torch.nn.functional as F

import vsf.attention.rows
from support.attend import attend
from vsf.attention.layout import Span, TokenLayout
from vsf.guidance import METHODS, Control, NormalizedAttentionGuidance, convert_nag, knobs, method

JOINT = TokenLayout((Span("image", 40), Span("positive", 7), Span("negative", 5)))
CROSS = TokenLayout((Span("positive", 7), Span("negative", 5)))


def draw(kind="joint", dtype=torch.float64, seed=0):
    random = torch.Generator().manual_seed(seed)
    tokens = 52 if kind == "joint" else 12
    shapes = [(2, 3, 52 if kind == "joint" else 40, 16), (2, 3, tokens, 16), (2, 3, tokens, 16)]
    return [torch.randn(shape, generator=random, dtype=dtype) for shape in shapes]


def image_rows(kind, out):
    return out[:, :, :40] if kind == "joint" else out


def two_full_attentions(kind, query, key, value):
    """(Z⁺, Z⁻) as peers compute them: attention under the positive and again under the negative prompt."""
    image = list(range(40)) if kind == "joint" else []
    first = len(image)
    positive, negative = [*image, *range(first, first + 7)], [*image, *range(first + 7, first + 12)]
    return [
        F.scaled_dot_product_attention(query[:, :, :40], key[:, :, k], value[:, :, k]) for k in (positive, negative)
    ]


@pytest.mark.parametrize("kind", ["joint", "cross"])
def test_nag_equals_the_form_with_two_full_attentions(kind):
    query, key, value = draw(kind)
    positive, negative = (z.transpose(1, 2).flatten(2) for z in two_full_attentions(kind, query, key, value))
    for scale, tau, alpha in [(4.0, 2.5, 0.125), (9.0, 5.0, 0.5), (12.0, 0.5, 1.0)]:
        guided = positive * scale - negative * (scale - 1)
        ratio = guided.norm(p=1, dim=-1, keepdim=True) / positive.norm(p=1, dim=-1, keepdim=True)
        guided = guided * ratio.clamp(max=tau) / ratio
        expected = (alpha * guided + (1 - alpha) * positive).unflatten(2, (3, 16)).transpose(1, 2)
        chosen = method("nag", scale=scale, tau=tau, alpha=alpha)
        out = attend(chosen, query, key, value, JOINT if kind == "joint" else CROSS, kind=kind)
        torch.testing.assert_close(image_rows(kind, out), expected)


def test_the_presets_of_nag_are_the_settings_of_the_paper_and_the_first_is_the_default():
    presets = NormalizedAttentionGuidance.PRESETS
    assert method("nag", **presets["nag"]) == method("nag") == method("nag", scale=convert_nag(3.0))
    assert method("nag", **presets["nag++"]) == NormalizedAttentionGuidance(scale=9.0, tau=5.0, alpha=0.5)


@pytest.mark.parametrize("kind", ["joint", "cross"])
def test_nasa_equals_the_form_with_two_full_attentions(kind):
    query, key, value = draw(kind)
    positive, negative = two_full_attentions(kind, query, key, value)
    out = attend(method("nasa", scale=0.5), query, key, value, JOINT if kind == "joint" else CROSS, kind=kind)
    torch.testing.assert_close(image_rows(kind, out), positive - 0.5 * negative)


@pytest.mark.parametrize("name", ["nag", "nasa", "ong"])
def test_image_attends_to_image_once(computed, name):
    attend(method(name), *draw(), JOINT)
    # image over image, positive, negative; the positive's rows; the negative's rows
    assert sorted(computed) == sorted([(40, 40), (40, 7), (40, 5), (7, 47), (5, 52)])


@pytest.mark.parametrize("strength", [1.0, 0.5, torch.tensor(0.5)], ids=["full", "half", "tensor"])
@pytest.mark.parametrize("name", ["nag", "nasa", "ong"])
def test_image_attends_to_image_once_where_padded_negatives_blend_in(computed, name, strength):
    valid = torch.tensor([[True] * 5, [True, False, False, False, False]])
    control = Control(strength=strength, unguided=())
    attend(method(name), *draw(), JOINT, negative_valid=valid, control=control)
    assert sorted(computed) == sorted([(40, 40), (40, 7), (40, 5), (7, 47), (5, 52)])


@pytest.mark.parametrize("name", ["nag", "nasa", "ong"])
def test_rows_known_to_have_no_negative_get_the_models_call_and_nothing_else_does(computed, name):
    valid = torch.tensor([[False] * 5, [True] * 5])
    control = Control(unguided=(0,))
    attend(method(name), *draw(), JOINT, negative_valid=valid, control=control)
    assert sorted(computed) == sorted([(47, 47), (5, 52), (40, 40), (40, 7), (40, 5), (7, 47), (5, 52)])


def test_a_layer_that_is_off_is_one_call_for_all_rows(computed):
    valid = torch.tensor([[False] * 5, [True] * 5])
    attend(method("nag"), *draw(), JOINT, negative_valid=valid, control=Control(strength=0.0, unguided=(0,)))
    assert sorted(computed) == sorted([(47, 47), (5, 52)])


@pytest.mark.parametrize("name", ["vsf", "vsf-centred", "negpip", "nag", "nasa", "ong"])
def test_an_emphasised_word_costs_no_second_look_from_image_to_image(computed, name):
    control = Control(emphasis=torch.full((2, 7), 1.3))
    attend(method(name), *draw(), JOINT, control=control)
    assert computed.count((40, 40)) == 1
    assert all(keys < 45 for queries, keys in computed if queries >= 40)


def test_value_sign_flip_costs_the_models_call_and_two_thin_ones(computed):
    for chosen in (method("vsf", orthogonal=True), method("vsf-centred")):
        computed.clear()
        attend(chosen, *draw(), JOINT)
        assert sorted(computed) == sorted([(47, 47), (40, 5), (5, 52)])


@pytest.mark.parametrize(("offset", "bias"), [(0.5, (1, 1, 1, 52)), (0.0, None)])
def test_without_a_log_sum_exp_value_sign_flip_is_one_plain_call_for_the_image(monkeypatch, offset, bias):
    monkeypatch.setattr(vsf.attention.rows, "best_kernel", lambda *_, **__: None)
    seen = []
    real = F.scaled_dot_product_attention

    def watching(query, key, value, bias=None, **options):
        seen.append((query.shape[2], key.shape[2], None if bias is None else tuple(bias.shape)))
        return real(query, key, value, bias, **options)

    monkeypatch.setattr(F, "scaled_dot_product_attention", watching)
    attend(method("vsf", offset=offset), *draw(), JOINT)
    assert sorted(seen, key=str) == sorted([(40, 52, bias), (7, 47, None), (5, 52, (1, 1, 5, 52))], key=str)


def test_value_sign_flip_fades_continuously_as_the_offset_grows():
    query, key, value = draw()
    unguided = attend(method("none"), query, key, value, JOINT)
    changes = []
    for offset in [0.0, 2.0, 5.0, 10.0, 20.0, 40.0]:
        out = attend(method("vsf", scale=2.0, offset=offset), query, key, value, JOINT)
        changes.append(float((out - unguided).abs().max()))
    assert all(later < earlier for earlier, later in pairwise(changes))
    # the change is at most (1 + scale) · max|V| · e^-offset · ΣA⁻/ΣA⁺, here below e^(4 - offset)
    assert all(change < 2.72 ** (4 - offset) for change, offset in zip(changes, [0, 2, 5, 10, 20, 40], strict=True))


def test_a_scale_of_zero_still_takes_attention_away():
    query, key, value = draw()
    unguided = attend(method("none"), query, key, value, JOINT)
    out = attend(method("vsf", scale=0.0), query, key, value, JOINT)
    assert float((out - unguided)[:, :, :40].abs().max()) > 0.01


@pytest.mark.parametrize(
    ("way", "off"), [("fused", {"scale": 0.0}), ("fused", {"offset": inf}), ("joined", {"scale": 0.0})], ids=str
)
def test_the_centred_flip_is_off_to_the_last_bit_and_comes_on_continuously(monkeypatch, off, way):
    if way == "joined":
        monkeypatch.setattr(vsf.attention.rows, "best_kernel", lambda *_, **__: None)
    query, key, value = draw()
    unguided = attend(method("none"), query, key, value, JOINT)
    assert torch.equal(attend(method("vsf-centred", **off), query, key, value, JOINT), unguided)
    near, nearer = (attend(method("vsf-centred", scale=scale), query, key, value, JOINT) for scale in (0.2, 0.1))
    torch.testing.assert_close(near - unguided, 2 * (nearer - unguided))
    assert float((near - unguided)[:, :, :40].abs().max()) > 0.01


def test_the_centred_flip_does_not_magnify_rounding():
    half = draw(dtype=torch.bfloat16)
    wide = [tensor.double() for tensor in half]

    def error(chosen):
        out, exact = (attend(chosen, *inputs, JOINT)[:, :, :40] for inputs in (half, wide))
        return float((out.double() - exact).abs().mean())

    # The change is about as large as the output itself, whose rounding is unavoidable; ten times as much would show.
    assert error(method("vsf-centred", scale=10.0)) < 4 * error(method("none"))


def test_the_orthogonal_change_has_no_part_along_the_unguided_output():
    query, key, value = draw()
    unguided = attend(method("none"), query, key, value, JOINT)[:, :, :40]
    plain, orthogonal = (
        attend(method("vsf", scale=2.0, orthogonal=knob), query, key, value, JOINT)[:, :, :40] - unguided
        for knob in (False, True)
    )
    overlap = (orthogonal * unguided).sum((1, 3))
    assert float(overlap.abs().max()) < 1e-12
    assert float((plain * unguided).sum((1, 3)).abs().max()) > 0.1
    # nothing else is lost: what was taken off points along the unguided output
    removed = (plain - orthogonal).transpose(1, 2).flatten(2)
    along = F.cosine_similarity(removed, unguided.transpose(1, 2).flatten(2), dim=-1).abs()
    torch.testing.assert_close(along, torch.ones_like(along))


@pytest.mark.parametrize(
    ("name", "off"),
    [("nag", {"scale": 1.0, "tau": 20.0}), ("nag", {"alpha": 0.0}), ("nasa", {"scale": 0.0}), ("ong", {"scale": 0.0})],
)
def test_the_neutral_setting_leaves_the_image_alone(name, off):
    query, key, value = draw()
    unguided = attend(method("none"), query, key, value, JOINT)
    torch.testing.assert_close(attend(method(name, **off), query, key, value, JOINT), unguided)


def test_in_cross_attention_a_flipped_part_of_the_prompt_is_value_sign_flip_without_offset():
    query, key, value = draw("cross")
    out, expected = (
        attend(method(name, scale=1.7), query, key, value, CROSS, kind="cross") for name in ("negpip", "vsf")
    )
    assert torch.equal(out, expected)


def test_a_negative_in_the_prompt_is_one_plain_attention_of_every_row():
    query, key, value = draw()
    turned = torch.cat([value[:, :, :47], -1.7 * value[:, :, 47:]], 2)
    expected = F.scaled_dot_product_attention(query, key, turned)
    torch.testing.assert_close(attend(method("negpip", scale=1.7), query, key, value, JOINT), expected)


def test_where_a_part_of_the_picture_is_left_alone_the_text_is_too():
    query, key, value = draw()
    left = torch.cat([torch.ones(20), torch.zeros(20)])
    out, alone, whole, half = (
        attend(method(name), query, key, value, JOINT, control=Control(strength=strength))[:, :, 40:47]
        for name, strength in [("negpip", left), ("none", 1.0), ("negpip", 1.0), ("negpip", torch.full((40,), 0.5))]
    )
    assert torch.equal(out, alone)
    torch.testing.assert_close(half, (alone + whole) / 2)
    assert not torch.allclose(whole, alone, atol=1e-2)


def test_classifier_free_guidance_leaves_attention_alone_and_calls_the_model_twice():
    query, key, value = draw()
    chosen, unguided = (attend(method(name), query, key, value, JOINT) for name in ("cfg", "none"))
    assert torch.equal(chosen, unguided)
    assert {name for name, cls in METHODS.items() if cls.model_calls == 2} == {"cfg"}
    assert {cls.model_calls for cls in METHODS.values()} == {1, 2}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_classifier_free_guidance_mixes_two_outputs_by_its_equation(dtype):
    positive, negative = torch.randn(2, 3, 4, 8, 8).to(dtype)
    for scale, strength in [(4.0, 1.0), (1.0, 1.0), (7.5, 0.3)]:
        whole = negative.double() + scale * (positive.double() - negative.double())
        expected = positive.double() + strength * (whole - positive.double())
        mixed = method("cfg", scale=scale).mix(positive, negative, strength)
        assert mixed.dtype == dtype
        torch.testing.assert_close(mixed.double(), expected, rtol=1e-5 if dtype == torch.float32 else 1e-2, atol=1e-5)


def test_classifier_free_guidance_is_off_where_its_strength_or_scale_is():
    positive, negative = torch.randn(2, 2, 4, 8, 8)
    mask = torch.cat([torch.ones(8, 4), torch.zeros(8, 4)], 1)
    mixed = method("cfg").mix(positive, negative, mask)
    assert torch.equal(mixed[..., 4:], positive[..., 4:])
    torch.testing.assert_close(mixed[..., :4], (negative + 4 * (positive - negative))[..., :4])
    assert torch.equal(method("cfg", scale=1.0).mix(positive, negative), positive)
    rows = torch.tensor([1.0, 4.0])[:, None, None]
    assert torch.equal(method("cfg", scale=rows).mix(positive, negative)[0], positive[0])


@pytest.mark.parametrize("way", ["together", "apart"])
@pytest.mark.parametrize(
    ("name", "setting"), [(name, knob.name) for name in METHODS for knob in knobs(METHODS[name]) if not knob.choices]
)
def test_a_knob_may_have_a_value_for_each_row_of_the_batch(name, setting, way):
    query, key, value = draw()
    values, layouts = torch.tensor([1.2, 0.6], dtype=torch.float64), [JOINT, JOINT]
    if way == "apart":  # rows with layouts of their own are taken one by one
        layouts[0] = TokenLayout((Span("image", 40), Span("positive", 6), Span("negative", 6)))
    both = method(name, **{setting: values[:, None, None]})
    together = attend(both, query, key, value, layouts)
    for row in range(2):
        own = [tensor[row : row + 1] for tensor in (query, key, value)]
        alone = attend(method(name, **{setting: values[row]}), *own, layouts[row])
        torch.testing.assert_close(together[row : row + 1], alone)


@pytest.mark.slow
def test_shapes_promised_in_signatures_hold():
    """Every jaxtyping annotation of the core, checked while each method runs once."""
    script = """
from jaxtyping import install_import_hook
with install_import_hook(["vsf.attention", "vsf.guidance"], "beartype.beartype"):
    from vsf.guidance import METHODS, Control, HostCall, guided_attention, method
import torch
from vsf.attention.layout import Span, TokenLayout
layout = TokenLayout((Span("image", 6), Span("positive", 4), Span("negative", 3), Span("shared", 1)))
valid, bias = torch.ones(2, 3, dtype=torch.bool), torch.rand(14, 14)
for name in METHODS:
    for gradients in (False, True):
        query, key, value = torch.randn(3, 2, 2, 14, 8, requires_grad=gradients)
        watched = Control(weights=torch.tensor([[0.5], [0.0]]), strength=torch.rand(6), watch=lambda _: None)
        known = Control(emphasis=[torch.rand(4), None], unguided=(1,))
        plain, masked = (HostCall(query, key, value, bias=mask) for mask in (None, bias))
        crossing, covered = (HostCall(query, key, value, "cross", bias=mask) for mask in (None, bias))
        for host in (plain, crossing):
            guided_attention(method(name), host, layout)
        for host in (masked, covered):
            guided_attention(method(name), host, layout, negative_valid=valid)
        for control in (watched, known):
            guided_attention(method(name), plain, layout, control=control)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
