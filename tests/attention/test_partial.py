import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from support import attend
from support import core_reference as ref
from support.attend import partial_attention
from vsf.attention.partial import merge
from vsf.errors import LayoutError

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def draw(dtype=torch.float32, channels=16, keys=(5, 3), seed=0, queries=6):
    random = torch.Generator().manual_seed(seed)
    shapes = [(2, 3, queries, channels), *[(2, 3, n, channels) for n in keys for _ in "kv"]]
    return [torch.randn(shape, generator=random, dtype=torch.float64).to(dtype) for shape in shapes]


@pytest.fixture(params=["fused", "joined", "gradients", "switched off"])
def road(request, monkeypatch):
    """Every way through the core; returns what turns a query into one that takes it."""
    if request.param == "joined":
        monkeypatch.setattr(attend, "kernel_for", lambda *_: None)
    if request.param == "switched off":
        with sdpa_kernel(SDPBackend.MATH):
            yield lambda query: query
        return
    yield (lambda query: query.requires_grad_()) if request.param == "gradients" else lambda query: query


@pytest.mark.parametrize("channels", [8, 12, 64, 256])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_merging_parts_equals_attending_to_all(road, dtype, channels):
    query, key, value, other, others = draw(dtype, channels)
    merged = merge(partial_attention(road(query), key, value), partial_attention(query, other, others)).detach()
    keys, values = torch.cat([key, other], 2), torch.cat([value, others], 2)
    wide = [tensor.detach().double() for tensor in (query, keys, values)]
    exact = torch.softmax(torch.einsum("bhqc,bhkc->bhqk", wide[0], wide[1]) / channels**0.5, -1)
    expected = torch.einsum("bhqk,bhkc->bhqc", exact, wide[2])
    own = F.scaled_dot_product_attention(query.detach(), keys, values)
    bound = max(4 * float((own.double() - expected).abs().max()), 1e-6)
    assert merged.dtype == dtype
    assert float((merged.double() - expected).abs().max()) <= bound


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_log_sum_exp_is_that_of_the_biased_logits(road, dtype):
    query, key, value, *_ = draw(dtype)
    bias = torch.linspace(-2, 2, 5).to(dtype).expand(1, 1, 6, 5)
    partial = partial_attention(road(query), key, value, bias=bias, scale=0.7).shifted(-1.5)
    logits = torch.einsum("bhqc,bhkc->bhqk", query.detach().double(), key.double()) * 0.7 + bias.double() - 1.5
    assert partial.log_sum_exp.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    tolerance = (
        {"rtol": 1e-5, "atol": 1e-5} if dtype in (torch.float64, torch.float32) else {"rtol": 0.01, "atol": 0.02}
    )
    torch.testing.assert_close(partial.log_sum_exp.detach().double(), torch.logsumexp(logits, -1), **tolerance)


def test_gain_and_shift_act_on_values_and_logits(road):
    query, key, value, other, others = draw(torch.float64)
    part = partial_attention(road(query), other, others).scaled(-2.0).scaled(0.5).shifted(0.5).shifted(-0.2)
    merged = merge(partial_attention(query, key, value), part)
    case = ref.Case(query.detach(), torch.cat([key, other], 2), torch.cat([value, others], 2), [], "cross")
    labels, real = ["positive"] * 5 + [0] * 3, torch.ones(8, dtype=torch.bool)
    for batch in range(2):
        for at in range(6):
            row = ref.flip_row(1.0, -0.3)(case.logits()[batch, :, at], case.value[batch], labels, real)
            torch.testing.assert_close(merged[batch, :, at].detach(), row)


def test_gain_and_shift_may_differ_from_row_to_row(road):
    query, key, value, other, others = draw()
    gain, shift = torch.tensor([0.0, -3.0])[:, None, None], torch.tensor([0.4, -1.0])[:, None, None]
    negative = partial_attention(road(query), other, others)
    together = merge(partial_attention(query, key, value), negative.scaled(gain).shifted(shift))
    for row, (own_gain, own_shift) in enumerate([(0.0, 0.4), (-3.0, -1.0)]):
        alone = merge(partial_attention(query, key, value), negative.scaled(own_gain).shifted(own_shift))
        torch.testing.assert_close(together[row], alone[row])


def test_the_order_of_the_parts_does_not_matter(road):
    query, key, value, other, others = draw()
    first, second = partial_attention(road(query), key, value), partial_attention(query, other, others).scaled(-1.0)
    torch.testing.assert_close(merge(first, second), merge(second, first))


def test_a_part_without_keys_weighs_nothing(road):
    query, key, value, *_ = draw()
    some, none = partial_attention(road(query), key, value), partial_attention(query, key[:, :, :0], value[:, :, :0])
    assert bool((none.log_sum_exp == -torch.inf).all())
    assert bool((none.out == 0).all())
    torch.testing.assert_close(merge(some, none), some.out)
    assert bool((merge(none, none) == 0).all())


def test_no_queries_are_an_empty_result(road):
    query, key, value, *_ = draw()
    part = partial_attention(road(query)[:, :, :0], key, value)
    assert merge(part, part).shape == (2, 3, 0, 16)


def test_a_hidden_part_leaves_the_other_to_the_last_bit():
    query, key, value, other, others = draw()
    some, hidden = partial_attention(query, key, value), partial_attention(query, other, others)
    assert torch.equal(merge(some, hidden.scaled(-4.0).shifted(-torch.inf)), some.out)


def test_a_hidden_part_leaves_the_other_where_gradients_are_wanted_too():
    query, key, value, other, others = draw(torch.float64)
    some, hidden = partial_attention(query.requires_grad_(), key, value), partial_attention(query, other, others)
    merged = merge(some, hidden.scaled(-4.0).shifted(-torch.inf))
    torch.testing.assert_close(merged, some.out)
    assert bool(torch.autograd.grad(merged.sum(), query)[0].isfinite().all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("masked", ["no", "bool", "additive"])
def test_a_partial_is_torchs_own_attention_to_the_last_bit(road, dtype, masked):
    query, key, value, *_ = draw(dtype, keys=(300,), queries=200)
    shown = torch.rand(2, 1, 200, 300, generator=torch.Generator().manual_seed(1)) < 0.8
    bias = {"no": None, "bool": shown, "additive": torch.randn(1, 1, 1, 300).to(dtype)}[masked]
    own = F.scaled_dot_product_attention(query, key, value, bias)
    assert torch.equal(partial_attention(road(query), key, value, bias=bias).out, own)


def test_the_log_sum_exp_passes_gradients_on():
    query, key, value, *_ = draw(torch.float64, channels=4)

    def log_sum_exp(query, key):
        return partial_attention(query, key, value[..., :4]).log_sum_exp

    assert torch.autograd.gradcheck(log_sum_exp, (query.requires_grad_(), key.requires_grad_()))


def test_channels_that_are_not_neighbours_in_memory_are_taken():
    query, key, value, *_ = draw()
    spread = key.mT.contiguous().mT
    torch.testing.assert_close(
        merge(partial_attention(query, spread, value)), merge(partial_attention(query, key, value))
    )


def test_parts_of_different_queries_are_refused():
    query, key, value, *_ = draw()
    with pytest.raises(LayoutError, match=r"partials of the same queries, got query shapes \(2, 3, 6, 16\), \(2, 3, 4"):
        merge(partial_attention(query, key, value), partial_attention(query[:, :, :4], key, value))
