"""Guided attention against the equations, over every layout, mask, order and dtype, by every road through the core."""

import contextlib

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vsf.attention.rows
from support import core_reference as ref
from support.attend import attend
from vsf.attention.layout import Span, TokenLayout
from vsf.errors import LayoutError
from vsf.guidance import METHODS, Control, method

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
quick = settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))


def layout_of(lengths):
    return TokenLayout(tuple(Span("negative" if isinstance(label, int) else label, n) for label, n in lengths))


def run(chosen, case, one_layout=False):
    layouts = [layout_of(lengths) for lengths in case.lengths]
    return attend(
        chosen,
        case.query,
        case.key,
        case.value,
        layouts[0] if one_layout else layouts,
        kind=case.kind,
        negative_valid=case.negative_valid,
        bias=case.bias,
        scale=case.scale,
        control=Control(weights=case.weights, strength=case.strength, emphasis=case.emphasis),
    )


@contextlib.contextmanager
def road(name):
    """Force one of the core's ways: kernels merged, one plain call over the joined keys, or a kernel of Triton's."""
    with pytest.MonkeyPatch.context() as patch:
        if name == "triton":
            fused = pytest.importorskip("vsf.attention.fused", reason="Triton is an extra of its own")
            patch.setattr(fused, "DEVICES", {torch.zeros(0).device.type})
        if name == "joined":
            patch.setattr(vsf.attention.rows, "best_kernel", lambda *_, **__: None)
        yield


def torchs_own_error(case):
    """Largest error of torch's attention on the same inputs, over max|V|; keys that no row may see left out."""
    bias = case.bias
    if bias is not None and bias.dtype != torch.bool:
        bias = bias.clamp(min=torch.finfo(bias.dtype).min / 2)
    out = F.scaled_dot_product_attention(case.query, case.key, case.value, bias, scale=case.scale)
    weights = torch.softmax(case.logits(), -1)
    exact = torch.einsum("bhqk,bhkc->bhqc", weights, case.value.double())
    return float((out.double() - exact).abs().max() / case.value.double().abs().max())


def assert_exact(out, expected, case, strength):
    assert out.dtype == case.query.dtype
    assert bool(out.isfinite().all())
    wrong = (out.double() - expected).abs().amax((1, 3))[ref.real_rows(case)]
    error = float(wrong.max()) / (1 + abs(strength)) / float(case.value.double().abs().max())
    assert error <= max(4 * torchs_own_error(case), 1e-6)


FADING = ("nag", "nasa", "ong")
CONTROLLED = [
    (("none", {}), ref.unguided_row),
    (("vsf", {"scale": 1.5, "offset": 0.3}), ref.flip_row(1.5, 0.3)),
    (("vsf", {"scale": 1.5, "offset": 0.3, "orthogonal": True}), ref.orthogonal_flip_row(1.5, 0.3)),
    (("vsf-centred", {"scale": 1.5, "offset": 0.3}), ref.centred_flip_row(1.5, 0.3)),
    (("nag", {"scale": 1.5, "tau": 0.8, "alpha": 0.5}), ref.nag_row(1.5, 0.8, 0.5, 1)),
    (("nasa", {"scale": 1.5}), ref.nasa_row(1.5)),
    (("ong", {"scale": 1.5}), ref.ong_row(1.5)),
    (("negpip", {"scale": 1.5}), ref.flip_row(1.5, 0.0)),
    (("cfg", {}), ref.unguided_row),
]
"""Each method with settings that show, and its equation."""
SCALES = st.sampled_from([0.0, 0.5, 1.0, 3.0])
OFFSETS = st.sampled_from([-2.0, -0.6, 0.0, 0.5, 1.0])


@pytest.mark.parametrize("way", ["fused", "joined"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@quick
@given(data=st.data())
def test_value_sign_flip_follows_its_equation(dtype, way, data):
    case, scale, offset = data.draw(ref.cases(dtype)), data.draw(SCALES), data.draw(OFFSETS)
    orthogonal = data.draw(st.booleans())
    row = (ref.orthogonal_flip_row if orthogonal else ref.flip_row)(scale, offset)
    with road(way):
        out = run(method("vsf", scale=scale, offset=offset, orthogonal=orthogonal), case)
    assert_exact(out, ref.reference(case, row), case, scale)


@pytest.mark.parametrize("way", ["fused", "joined"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@settings(quick, max_examples=20)
@given(data=st.data())
def test_the_other_methods_follow_their_equations(dtype, way, data):
    case = data.draw(ref.cases(dtype))
    scale, tau = data.draw(st.sampled_from([1.0, 2.0, 4.0])), data.draw(st.sampled_from([0.5, 2.5]))
    norm, name = data.draw(st.sampled_from([1, 2])), data.draw(st.sampled_from([*METHODS]))
    knobs, row = {
        "none": ({}, ref.unguided_row),
        "nag": ({"scale": scale, "tau": tau, "alpha": 0.5, "norm": f"l{norm}"}, ref.nag_row(scale, tau, 0.5, norm)),
        "nasa": ({"scale": scale}, ref.nasa_row(scale)),
        "ong": ({"scale": scale}, ref.ong_row(scale)),
        "vsf": ({"scale": scale}, ref.flip_row(scale, 0.0)),
        "vsf-centred": ({"scale": scale, "offset": -0.6}, ref.centred_flip_row(scale, -0.6)),
        "negpip": ({"scale": scale}, ref.flip_row(scale, 0.0)),
        "cfg": ({}, ref.unguided_row),
    }[name]
    with road(way):
        out = run(method(name, **knobs), case)
    assert_exact(out, ref.reference(case, row, text_too=name == "negpip", fades=name in FADING), case, scale)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@settings(quick, max_examples=20)
@given(data=st.data())
def test_one_kernel_of_tritons_follows_the_equations_of_every_method_too(dtype, data):
    case = data.draw(ref.controlled(dtype))
    (name, knobs), row = data.draw(st.sampled_from(CONTROLLED))
    with road("triton"), torch.no_grad():
        out = run(method(name, **knobs), case)
    assert_exact(out, ref.reference(case, row, text_too=name == "negpip", fades=name in FADING), case, 1.5)


@pytest.mark.parametrize("way", ["fused", "joined"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@settings(quick, max_examples=20)
@given(data=st.data())
def test_weights_strength_and_emphasis_follow_their_equations_under_every_method(dtype, way, data):
    case = data.draw(ref.controlled(dtype))
    (name, knobs), row = data.draw(st.sampled_from(CONTROLLED))
    with road(way):
        out = run(method(name, **knobs), case)
    assert_exact(out, ref.reference(case, row, text_too=name == "negpip", fades=name in FADING), case, 1.5)


# A tau below 1 holds the unguided output itself back, however little is extrapolated.
FADES = [case for case in CONTROLLED[1:-1] if case[0][0] != "nag"]
FADES.append((("nag", {"scale": 4.0, "tau": 1.2, "alpha": 0.5}), ref.nag_row(4.0, 1.2, 0.5, 1)))


@pytest.mark.parametrize("way", ["fused", "joined", "triton"])
@pytest.mark.parametrize("kind", ["joint", "cross"])
@pytest.mark.parametrize(("setting", "row"), FADES, ids=[str(case[0]) for case in FADES])
def test_a_weight_fades_every_method_continuously_to_nothing(setting, row, kind, way):
    (name, knobs), image = setting, [("image", 9)] if kind == "joint" else []
    lengths = [[*image, ("positive", 4), (0, 3), (1, 2)]] * 2
    tokens = sum(length for _, length in lengths[0])
    query, key, value = (torch.randn(2, 2, n, 8) for n in (tokens if kind == "joint" else 9, tokens, tokens))
    case, moved = ref.Case(query, key, value, lengths, kind), []
    weights = (0.5, 1e-2, 1e-4, 1e-6, 1e-8)
    for weight in weights:
        case.weights = torch.tensor([[weight, weight / 2], [weight, 0.0]])
        with road(way), torch.no_grad():
            out = run(method(name, **knobs), case)
            unguided = run(method("none"), case)
        assert_exact(out, ref.reference(case, row, text_too=name == "negpip", fades=name in FADING), case, 1.5)
        moved.append(float((out - unguided)[:, :, :9].abs().max()))
    assert moved[0] > 1e-2
    # at least in proportion to the weight, but for the rounding of float32
    assert all(change <= 30 * weight + 1e-6 for change, weight in zip(moved, weights, strict=True))


@pytest.mark.parametrize("way", ["fused", "joined", "triton"])
@pytest.mark.parametrize("keys", ["image", "kept"])
@pytest.mark.parametrize(("setting", "row"), CONTROLLED, ids=[str(case[0]) for case in CONTROLLED])
def test_keys_of_no_prompt_stay_under_the_negative(setting, row, keys, way):
    """Of PRX, whose image tokens attend to the text and to each other in a call in which text has no rows."""
    (name, knobs), lengths = setting, [("positive", 4), (0, 3), (keys, 9)]
    query, key, value = (torch.randn(1, 2, n, 8) for n in (9, 16, 16))
    case = ref.Case(query, key, value, [lengths], "cross")
    with road(way), torch.no_grad():
        out = run(method(name, **knobs), case)
    assert_exact(out, ref.reference(case, row, text_too=name == "negpip", fades=name in FADING), case, 1.5)


@quick
@given(data=st.data())
def test_inputs_that_want_gradients_give_the_same_numbers(data):
    case = data.draw(ref.cases(torch.float32))
    expected = ref.reference(case, ref.flip_row(1.5, 0.3))
    case.query = case.query.clone().requires_grad_()
    out = run(method("vsf", scale=1.5, offset=0.3), case)
    assert out.requires_grad
    case.query = case.query.detach()
    assert_exact(out.detach(), expected, case, 1.5)


@quick
@given(data=st.data())
def test_rows_with_layouts_of_their_own_equal_one_by_one(data):
    case = data.draw(ref.cases(torch.float32))
    together = run(method("vsf", scale=1.5), case)
    for row in range(case.query.shape[0]):
        pick = slice(row, row + 1)
        labels = case.labels(row)
        negatives = sum(isinstance(label, int) for label in labels)
        alone = ref.Case(case.query[pick], case.key[pick], case.value[pick], [case.lengths[row]], case.kind)
        alone.scale = case.scale
        alone.negative_valid = None if case.negative_valid is None else case.negative_valid[pick, :negatives]
        alone.bias = case.bias if case.bias is None or case.bias.shape[0] == 1 else case.bias[pick]
        torch.testing.assert_close(run(method("vsf", scale=1.5), alone, one_layout=True), together[pick])


def test_rows_come_back_in_the_order_they_came_in():
    near, middle, far = ([("image", 6), ("positive", 6 - n), (0, n)] for n in (1, 2, 3))
    query, key, value = torch.randn(3, 4, 2, 12, 8)
    case = ref.Case(query, key, value, [near, middle, far, near], "joint")
    expected = ref.reference(case, ref.flip_row(1.0, 0.0))
    torch.testing.assert_close(run(method("vsf"), case).double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(7, 12), (2, 1, 12), (1,)])
def test_a_bias_may_leave_out_leading_axes(shape):
    layout = TokenLayout((Span("positive", 8), Span("negative", 4)))
    query, (key, value) = torch.randn(2, 2, 7, 8), torch.randn(2, 2, 2, 12, 8)
    bias = torch.randn(shape)
    out = attend(method("vsf"), query, key, value, layout, kind="cross", bias=bias)
    full = bias.expand(2, 2, 7, 12)
    torch.testing.assert_close(out, attend(method("vsf"), query, key, value, layout, kind="cross", bias=full))


@pytest.mark.parametrize("way", ["fused", "joined"])
@pytest.mark.parametrize("name", METHODS)
def test_grouped_key_heads_equal_the_same_heads_repeated(name, way):
    layout = TokenLayout((Span("image", 6), Span("positive", 4), Span("negative", 3)))
    query, (key, value) = torch.randn(2, 6, 13, 8), torch.randn(2, 2, 2, 13, 8)
    seen = []
    control = Control(watch=seen.append)
    with road(way):
        out = attend(method(name), query, key, value, layout, control=control)
        repeated = (tensor.repeat_interleave(3, 1) for tensor in (key, value))
        torch.testing.assert_close(out, attend(method(name), query, *repeated, layout, control=control))
    for observation in seen[1:]:
        torch.testing.assert_close(observation.mass, seen[0].mass)


JOINT = TokenLayout((Span("image", 4), Span("negative", 2)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query": torch.randn(2, 6, 8)}, r"\(batch, heads, tokens, channels\), got \(2, 6, 8\)"),
        ({"query": torch.randn(2, 3, 6, 8)}, r"as many query heads as key heads or a multiple, got \(2, 3, 6, 8\)"),
        ({"value": torch.randn(2, 2, 5, 8)}, r"got .*\(2, 2, 5, 8\)"),
        ({"layout": TokenLayout((Span("image", 9),))}, "a joint layout of 9 tokens needs as many keys, and queries"),
        ({"query": torch.randn(2, 2, 4, 8)}, "got 6 keys and 4 queries"),
        ({"layout": [JOINT] * 3}, r"one per batch row \(2\), got 3"),
        ({"bias": torch.zeros(2, 1, 6, 4)}, r"= \(2, 2, 6, 6\), got \(2, 1, 6, 4\)"),
        ({"negative_valid": torch.ones(2, 3, dtype=torch.bool)}, r"= \(2, 2\), got torch.bool of \(2, 3\)"),
        ({"negative_valid": torch.ones(2, 2)}, "got torch.float32"),
        ({"bias": torch.zeros(1, 2, 2, 6, 6)}, "broadcasts"),
        ({"layout": []}, "got 0"),
        ({"kind": "self"}, 'kind is "joint" or "cross", got "self"'),
    ],
)
def test_shapes_that_do_not_fit_are_refused_with_both_shapes(change, message):
    inputs = {"query": torch.randn(2, 2, 6, 8), "key": torch.randn(2, 2, 6, 8), "value": torch.randn(2, 2, 6, 8)}
    inputs |= {"layout": JOINT} | change
    with pytest.raises(LayoutError, match=message):
        attend(method("vsf"), **inputs)
