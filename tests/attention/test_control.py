"""Weights, strength and the observer, for every method in the registry; a new one is tested by being registered."""

from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F

import vsf.attention.rows
from support.attend import attend
from vsf.attention.layout import Span, TokenLayout
from vsf.errors import LayoutError
from vsf.guidance import METHODS, Control, Guidance, method

EVERY_METHOD = pytest.mark.parametrize("name", METHODS)
# those that act on attention: not the baseline, nor a method that acts on the model's output
ACTING = [name for name, cls in METHODS.items() if name != "none" and cls.model_calls == 1]
EVERY_KIND = pytest.mark.parametrize("kind", ["joint", "cross"])
IMAGE, POSITIVE = 40, 7


@pytest.fixture(params=["fused", "joined"])
def way(request, monkeypatch):
    if request.param == "joined":
        monkeypatch.setattr(vsf.attention.rows, "best_kernel", lambda *_, **__: None)


def layout_of(kind, *negatives):
    image = (Span("image", IMAGE),) if kind == "joint" else ()
    return TokenLayout((*image, Span("positive", POSITIVE), *(Span("negative", n) for n in negatives)))


def draw(kind, *negatives, batch=2, dtype=torch.float32):
    tokens = layout_of(kind, *negatives).tokens
    random = torch.Generator().manual_seed(0)
    queries = tokens if kind == "joint" else IMAGE
    shapes = [(batch, 2, length, 16) for length in (queries, tokens, tokens)]
    return [torch.randn(shape, generator=random).to(dtype) for shape in shapes]


def keep(tensors, kind, rows):
    """The same sequence with only these tokens."""
    query, key, value = tensors
    return [query[:, :, rows] if kind == "joint" else query, key[:, :, rows], value[:, :, rows]]


def guided(name, kind, tensors, negatives, **control):
    valid = control.pop("valid", None)
    layout = layout_of(kind, *negatives)
    out = attend(
        method(name), *tensors, layout, kind=kind, negative_valid=valid, control=Control(**control) if control else None
    )
    return out[:, :, :IMAGE]


@pytest.mark.usefixtures("way")
@EVERY_KIND
@EVERY_METHOD
def test_weight_zero_equals_leaving_the_negative_out(name, kind):
    tensors, base = draw(kind, 3, 2, 4), POSITIVE + IMAGE * (kind == "joint")
    without = [*range(base + 3), *range(base + 5, base + 9)]
    weights = torch.tensor([[1.0, 0.0, 0.5]] * 2)
    out = guided(name, kind, tensors, (3, 2, 4), weights=weights)
    expected = guided(name, kind, keep(tensors, kind, without), (3, 4), weights=weights[:, [0, 2]])
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-6)
    if name in ACTING:
        assert not torch.allclose(out, guided(name, kind, tensors, (3, 2, 4)), atol=1e-3)


@pytest.mark.usefixtures("way")
@EVERY_KIND
@EVERY_METHOD
def test_weight_zero_for_every_negative_of_a_row_leaves_the_row_unguided_to_the_last_bit(name, kind):
    tensors = draw(kind, 3, 2)
    out = guided(name, kind, tensors, (3, 2), weights=torch.tensor([[0.0, 0.0], [0.0, 1.0]]))
    assert torch.equal(out[0], guided("none", kind, tensors, (3, 2))[0])
    assert bool(out.isfinite().all())


@pytest.mark.usefixtures("way")
@EVERY_KIND
@EVERY_METHOD
def test_two_equal_halves_equal_one_whole(name, kind):
    base = POSITIVE + IMAGE * (kind == "joint")
    whole = draw(kind, 3, dtype=torch.float64)
    halves = keep(whole, kind, [*range(base + 3), *range(base, base + 3)])
    out = guided(name, kind, halves, (3, 3), weights=torch.full((2, 2), 0.5))
    torch.testing.assert_close(out, guided(name, kind, whole, (3,)), rtol=1e-12, atol=1e-13)


@pytest.mark.usefixtures("way")
@EVERY_KIND
@EVERY_METHOD
def test_the_order_of_weighted_negatives_does_not_matter(name, kind):
    tensors, base = draw(kind, 3, 2, dtype=torch.float64), POSITIVE + IMAGE * (kind == "joint")
    swap = [*range(base), base + 3, base + 4, base, base + 1, base + 2]
    out = guided(name, kind, tensors, (3, 2), weights=torch.tensor([[0.3, 2.0]] * 2))
    swapped = guided(name, kind, keep(tensors, kind, swap), (2, 3), weights=torch.tensor([[2.0, 0.3]] * 2))
    torch.testing.assert_close(swapped, out, rtol=1e-12, atol=1e-13)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@EVERY_KIND
@EVERY_METHOD
def test_negatives_may_weigh_otherwise_on_each_image_row(name, kind, dtype):
    """Rows 0 to 9 see one negative, rows 10 to 19 the other one, both half as much up to 29, and the rest none."""
    tensors, weights = draw(kind, 3, 2, dtype=dtype), torch.zeros(2, 2, IMAGE)
    for rows, of_negatives in ((slice(0, 10), (1, 0)), (slice(10, 20), (0, 1)), (slice(20, 30), (0.5, 0.5))):
        weights[:, :, rows] = torch.tensor(of_negatives)[:, None]
        expected = guided(name, kind, tensors, (3, 2), weights=torch.tensor([of_negatives] * 2))
        out = guided(name, kind, tensors, (3, 2), weights=weights)
        exact = 1e-5 if dtype == torch.float32 else 2e-2
        torch.testing.assert_close(out[:, :, rows], expected[:, :, rows], rtol=exact, atol=exact)
    assert torch.equal(out[:, :, 30:], guided("none", kind, tensors, (3, 2))[:, :, 30:])
    if name in ACTING:
        assert not torch.allclose(out[:, :, :30], guided("none", kind, tensors, (3, 2))[:, :, :30], atol=1e-3)


@pytest.mark.parametrize("name", [name for name, cls in METHODS.items() if "negative" not in cls.guided_rows])
def test_the_stream_of_a_negative_is_not_weighted(name):
    tensors, layout = draw("joint", 3, 2), layout_of("joint", 3, 2)
    weighted = Control(weights=torch.tensor([[0.3, 2.0]] * 2))
    plain = attend(method(name), *tensors, layout)
    out = attend(method(name), *tensors, layout, control=weighted)
    assert torch.equal(out[:, :, IMAGE:], plain[:, :, IMAGE:])


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("off", [0.0, 0, torch.zeros(()), torch.zeros(IMAGE), torch.zeros(2, IMAGE)], ids=repr)
@EVERY_KIND
@EVERY_METHOD
def test_strength_zero_bypasses_the_method_to_the_last_bit(name, kind, off):
    tensors = draw(kind, 3, 2)
    assert torch.equal(guided(name, kind, tensors, (3, 2), strength=off), guided("none", kind, tensors, (3, 2)))


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@EVERY_KIND
@EVERY_METHOD
def test_strength_one_is_the_method_to_the_last_bit(name, kind, dtype):
    tensors, valid = draw(kind, 3, 2, dtype=dtype), torch.ones(2, 5, dtype=torch.bool)
    expected = guided(name, kind, tensors, (3, 2), valid=valid)  # the model's own call is made here too
    assert torch.equal(guided(name, kind, tensors, (3, 2), valid=valid, strength=torch.ones(IMAGE)), expected)


@EVERY_KIND
@EVERY_METHOD
def test_strength_fades_continuously(name, kind):
    tensors = draw(kind, 3, 2, dtype=torch.float64)
    unguided = guided("none", kind, tensors, (3, 2))
    whole = guided(name, kind, tensors, (3, 2)) - unguided
    for strength in (0.001, 0.4, 0.999):
        out = guided(name, kind, tensors, (3, 2), strength=strength)
        torch.testing.assert_close(out - unguided, strength * whole)


@EVERY_KIND
@EVERY_METHOD
def test_strength_per_token_leaves_the_other_tokens_alone_to_the_last_bit(name, kind):
    tensors = draw(kind, 3, 2)
    left = torch.cat([torch.ones(IMAGE // 2), torch.zeros(IMAGE // 2)])
    out, unguided = (guided(*given, kind, tensors, (3, 2), strength=left) for given in ([name], ["none"]))
    assert torch.equal(out[:, :, IMAGE // 2 :], unguided[:, :, IMAGE // 2 :])
    torch.testing.assert_close(out[:, :, : IMAGE // 2], guided(name, kind, tensors, (3, 2))[:, :, : IMAGE // 2])


@pytest.mark.parametrize("control", ["weights", "strength"])
@EVERY_KIND
@pytest.mark.parametrize("name", ACTING)
def test_gradients_of_the_controls_agree_with_finite_differences(name, kind, control):
    query, key, value = draw(kind, 2, 1, batch=1, dtype=torch.float64)
    given = torch.full((1, 2), 0.6) if control == "weights" else torch.full((IMAGE,), 0.6)
    tensors = [tensor[:, :1, :, :3].contiguous() for tensor in (query, key, value)]
    given = given.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: guided(name, kind, tensors, (2, 1), **{control: x})[:, :, :3], [given])


# What is known of the rows, and emphasised words --------------------------------------------------------------------


@EVERY_KIND
@EVERY_METHOD
def test_a_row_named_as_unguided_is_so_to_the_last_bit_and_the_others_do_not_notice(name, kind):
    tensors, layout = draw(kind, 3, 2, batch=3), layout_of(kind, 3, 2)
    valid = torch.tensor([[True] * 5, [False] * 5, [True, False, True, True, False]])
    out, expected = (
        attend(method(name), *tensors, layout, kind=kind, negative_valid=valid, control=control)
        for control in (Control(unguided=(1,)), Control())
    )
    host = [*range(POSITIVE + (IMAGE if kind == "joint" else 0))]
    query, key, value = keep(tensors, kind, host)
    assert torch.equal(out[1, :, : query.shape[2]], F.scaled_dot_product_attention(query, key, value)[1])
    torch.testing.assert_close(out[[0, 2], :, : query.shape[2]], expected[[0, 2], :, : query.shape[2]])
    assert bool(out.isfinite().all())


@EVERY_METHOD
def test_the_observer_is_not_shown_rows_named_as_unguided(name):
    seen, valid = [], torch.tensor([[True] * 5, [False] * 5, [True] * 5])
    guided(name, "joint", draw("joint", 3, 2, batch=3), (3, 2), valid=valid, unguided=(1,), watch=seen.append)
    assert [observation.rows for observation in seen] == [(0, 2)]


@pytest.mark.usefixtures("way")
@EVERY_KIND
@EVERY_METHOD
def test_a_positive_word_of_weight_two_counts_as_if_it_stood_there_twice(name, kind):
    tensors, at = draw(kind, 3, dtype=torch.float64), (IMAGE if kind == "joint" else 0) + 2
    image = (Span("image", IMAGE),) if kind == "joint" else ()
    twice = TokenLayout((*image, Span("positive", POSITIVE + 1), Span("negative", 3)))
    doubled = keep(tensors, kind, [*range(at), at, *range(at, tensors[1].shape[2])])
    weights = torch.ones(POSITIVE)
    weights[2] = 2.0
    out = guided(name, kind, tensors, (3,), emphasis=[weights, weights], strength=0.6)
    expected = attend(method(name), *doubled, twice, kind=kind, control=Control(strength=0.6))
    torch.testing.assert_close(out, expected[:, :, :IMAGE], rtol=1e-6, atol=1e-7)
    assert not torch.allclose(out, guided(name, kind, tensors, (3,), strength=0.6), atol=1e-3)


@pytest.mark.usefixtures("way")
@EVERY_KIND
@EVERY_METHOD
def test_a_positive_word_of_weight_zero_is_not_seen(name, kind):
    tensors, base = draw(kind, 3), (IMAGE if kind == "joint" else 0)
    weights = torch.tensor([0.0] + [1.0] * (POSITIVE - 1))
    changed = [tensor.clone() for tensor in tensors]
    changed[1][:, :, base] += 3.0
    changed[2][:, :, base] += 3.0
    out, same = (guided(name, kind, given, (3,), emphasis=[weights, weights]) for given in (tensors, changed))
    torch.testing.assert_close(out, same)


@EVERY_KIND
@EVERY_METHOD
def test_emphasis_acts_without_a_negative_too_and_on_its_own_row_only(name, kind):
    tensors, weights = draw(kind), torch.linspace(0.5, 2.0, POSITIVE)
    out = attend(method(name), *tensors, layout_of(kind), kind=kind, control=Control(emphasis=[weights, None]))
    query, key, value = (tensor.double() for tensor in tensors)
    bias = torch.cat([torch.zeros(key.shape[2] - POSITIVE), weights.log()]).double()
    emphasised = F.scaled_dot_product_attention(query, key, value, bias.expand(query.shape[2], -1))
    assert torch.equal(out[1], F.scaled_dot_product_attention(*tensors)[1])
    torch.testing.assert_close(out[0, :, :IMAGE].double(), emphasised[0, :, :IMAGE], rtol=1e-5, atol=1e-6)
    if kind == "joint":
        text = F.scaled_dot_product_attention(query, key, value)[0, :, IMAGE:]
        torch.testing.assert_close(out[0, :, IMAGE:].double(), text, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("way")
@EVERY_KIND
def test_a_method_of_ones_own_finds_the_emphasis_in_the_base(kind):
    @dataclass(frozen=True)
    class Halved(Guidance):
        name = "halved"

        def combine(self, partials):
            return partials.base.out / 2

    tensors, weights = draw(kind, 3), torch.linspace(0.5, 2.0, POSITIVE).expand(2, -1)
    control = Control(emphasis=weights)
    out = attend(Halved(), *tensors, layout_of(kind, 3), kind=kind, control=control)[:, :, :IMAGE]
    torch.testing.assert_close(out, guided("none", kind, tensors, (3,), emphasis=weights) / 2)


@pytest.mark.usefixtures("way")
@EVERY_KIND
@EVERY_METHOD
def test_strength_zero_leaves_the_emphasised_output_to_the_last_bit(name, kind):
    tensors, weights = draw(kind, 3, 2), torch.linspace(0.5, 2.0, POSITIVE).expand(2, -1)
    off, unguided = (
        guided(*given, kind, tensors, (3, 2), emphasis=weights, strength=torch.zeros(IMAGE))
        for given in ([name], ["none"])
    )
    assert torch.equal(off, unguided)


# The observer -----------------------------------------------------------------------------------------------------


def dense_mass(kind, tensors, negatives, weights, valid):
    """Softmax over all keys of an image row in float64: (batch, negatives, queries)."""
    query, key, _ = (tensor.double() for tensor in tensors)
    base, parts = POSITIVE + IMAGE * (kind == "joint"), []
    powers = torch.exp(query[:, :, :IMAGE] @ key.transpose(2, 3) / 4)
    at = base
    for number, length in enumerate(negatives):
        powers[..., at : at + length] *= weights[:, number, None, None, None]
        at += length
    powers[..., base:] *= valid[:, None, None]
    shares, at = powers / powers.sum(-1, keepdim=True), base
    for length in negatives:
        parts.append(shares[..., at : at + length].sum(-1).mean(1))
        at += length
    return torch.stack(parts, 1)


@pytest.mark.parametrize("padded", [False, True], ids=["all real", "padded"])
@EVERY_KIND
@EVERY_METHOD
def test_the_observer_sees_mass_and_change_as_a_dense_softmax_has_them(name, kind, padded):
    tensors, seen = draw(kind, 3, 2), []
    weights = torch.tensor([[1.0, 0.5], [0.25, 3.0]])
    valid = torch.tensor([[True, False, False, True, True], [True] * 5]) if padded else torch.ones(2, 5).bool()
    given = {"weights": weights} | ({"valid": valid} if padded else {})
    out = guided(name, kind, tensors, (3, 2), watch=seen.append, **given)
    (observation,) = seen
    assert observation.rows == (0, 1)
    expected = dense_mass(kind, tensors, (3, 2), weights, valid)
    torch.testing.assert_close(observation.mass.double(), expected, rtol=1e-5, atol=1e-6)
    unguided = guided("none", kind, tensors, (3, 2))
    change = (out - unguided).flatten(1).norm(dim=1) / unguided.flatten(1).norm(dim=1)
    torch.testing.assert_close(observation.change, change, rtol=1e-5, atol=1e-6)


@EVERY_METHOD
def test_watching_changes_nothing_and_computes_no_further_attention(computed, name):
    tensors = draw("joint", 3, 2)
    expected, before = guided(name, "joint", tensors, (3, 2)), sorted(computed)
    computed.clear()
    assert torch.equal(guided(name, "joint", tensors, (3, 2), watch=lambda _: None), expected)
    assert sorted(computed) == before


def test_rows_with_layouts_of_their_own_are_observed_with_their_numbers():
    tensors, seen = draw("joint", 3, 2, batch=3), []
    layouts = [layout_of("joint", 3, 2), layout_of("joint", 1, 4), layout_of("joint", 3, 2)]
    attend(method("vsf"), *tensors, layouts, control=Control(watch=seen.append))
    assert [observation.rows for observation in seen] == [(0, 2), (1,)]


def test_an_observer_of_a_call_that_is_off_sees_nothing():
    seen = []
    guided("vsf", "joint", draw("joint", 3), (3,), strength=0.0, watch=seen.append)
    assert seen == []


def test_where_attention_gives_no_log_sum_exp_nothing_is_observed(monkeypatch):
    monkeypatch.setattr(vsf.attention.rows, "best_kernel", lambda *_, **__: None)
    seen = []
    guided("vsf", "joint", draw("joint", 3), (3,), watch=seen.append)
    assert seen == []


@EVERY_METHOD
def test_watching_leaves_gradients_as_they_are(name):
    def gradients(watch):
        tensors = [tensor.requires_grad_() for tensor in draw("joint", 3, 2, dtype=torch.float64)]
        out = attend(method(name), *tensors, layout_of("joint", 3, 2), control=Control(watch=watch))
        return torch.autograd.grad(out.square().sum(), tensors)

    for watched, alone in zip(gradients(lambda _: None), gradients(None), strict=True):
        assert torch.equal(watched, alone)


@pytest.mark.parametrize(
    ("control", "message"),
    [
        (
            {"weights": torch.ones(2, 3)},
            r"weights are \(batch, negatives\) = \(2, 2\), or .* \(2, 2, 40\), got \(2, 3\)",
        ),
        ({"weights": torch.ones(2, 2, 39)}, r"got \(2, 2, 39\)"),
        ({"weights": torch.ones(2)}, r"got \(2,\)"),
        ({"strength": torch.ones(7)}, r"\(image rows\) = \(40,\), or .* \(2, 40\), got \(7,\)"),
        ({"strength": torch.ones(3, 40)}, r"got \(3, 40\)"),
        ({"unguided": (2,)}, "unguided names batch rows, 0 to 1, got 2"),
        ({"emphasis": torch.ones(2, 6)}, r"emphasis has one weight per positive token .* \[\(7,\), \(7,\)\], got .*6"),
        ({"emphasis": [None, torch.ones(7), None]}, r"got \[None, \(7,\), None\]"),
    ],
)
def test_controls_that_do_not_fit_are_refused_with_both_shapes(control, message):
    with pytest.raises(LayoutError, match=message):
        guided("vsf", "joint", draw("joint", 3, 2), (3, 2), **control)
