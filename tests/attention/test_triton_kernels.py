"""The fused kernels against dense attention in float64, which shares no code with them. On CPU in an interpreter."""

import os
import subprocess
import sys
from dataclasses import dataclass
from math import inf, log
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton", reason="Triton is an extra of its own")

import triton.language as tl

from vsf.attention import fused
from vsf.attention.fused import Keys, Observed, Rows, Shared, Watch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
NUMBERS = {
    "flip": {"scale": 2.5, "offset": -0.6},
    "flip orthogonal": {"scale": 3.0, "offset": 0.4},
    "flip centred": {"scale": 4.0, "offset": 0.4},
    "nasa": {"scale": 0.25},
    "ong": {"scale": 1.5},
    "nag l1": {"scale": 4.0, "tau": 1.2, "alpha": 0.4},
    "nag l2": {"scale": 9.0, "tau": 1.3, "alpha": 0.5},
}
FLIPS = ("flip", "flip orthogonal", "flip centred")


@pytest.fixture(autouse=True)
def _products_of_bfloat16(monkeypatch):
    """Let the interpreter multiply bfloat16, which it keeps as integers."""
    if DEVICE == "cuda":
        return
    from triton.runtime import interpreter

    builder = type(interpreter.interpreter_builder)
    real = builder.create_dot

    def create_dot(self, a, b, *rest):
        a, b = (self.cast_impl(x, tl.float32) if x.dtype.scalar == tl.bfloat16 else x for x in (a, b))
        return real(self, a, b, *rest)

    monkeypatch.setattr(builder, "create_dot", create_dot)


@pytest.fixture
def launches(monkeypatch):
    """The grids of the launches."""
    grids = []
    real = fused.guide

    class Counting:
        def __getitem__(self, grid):
            grids.append(grid)
            return real[grid]

    monkeypatch.setattr(fused, "guide", Counting())
    return grids


# Dense attention in float64 -----------------------------------------------------------------------------------------


def softmax_sum(logits, values):
    """Σ exp(logit)·value / Σ exp(logit) and log Σ exp(logit), key by key; 0 and -inf where no key is visible."""
    lse = torch.logsumexp(logits, -1)
    weights = torch.exp(logits - lse[..., None])
    return torch.nan_to_num(weights @ values), lse


@dataclass
class Case:
    """Queries, and the keys of image, positive and negative: float64 numbers that the dtype represents."""

    query: torch.Tensor
    image: tuple[torch.Tensor, torch.Tensor]
    positive: tuple[torch.Tensor, torch.Tensor]
    negative: tuple[torch.Tensor, torch.Tensor]
    dtype: torch.dtype
    bias: torch.Tensor | None = None
    positive_bias: torch.Tensor | None = None

    def logits(self, keys, bias=None):
        heads = self.query.shape[1] // keys[0].shape[1]
        logits = self.query @ keys[0].repeat_interleave(heads, 1).mT * self.query.shape[-1] ** -0.5
        return logits if bias is None else logits + bias[:, None, None, :].double()

    def values(self, keys):
        return keys[1].repeat_interleave(self.query.shape[1] // keys[1].shape[1], 1)

    def over(self, *parts):
        """Attention over some of "image", "positive", "negative" together."""
        biases = {"negative": self.bias, "positive": self.positive_bias}
        logits = torch.cat([self.logits(getattr(self, part), biases.get(part)) for part in parts], -1)
        return softmax_sum(logits, torch.cat([self.values(getattr(self, part)) for part in parts], 2))

    def expected(self, rule, *, cross=False, scale=1.0, offset=0.0, tau=1.0, alpha=1.0):
        """Z under a rule, from its paper's equation."""
        host = ("positive",) if cross else ("image", "positive")
        towards, _ = self.over(*host)
        if rule == "flip centred":
            mean, negative = softmax_sum(self.logits(self.negative, self.bias) - offset, self.values(self.negative))
            _, host_sum = self.over(*host)
            share = torch.sigmoid(negative - host_sum)[..., None]
            return towards + scale * share * (towards - mean)
        if rule in FLIPS:
            logits = [self.logits(getattr(self, part)) for part in host[:-1]]
            logits += [self.logits(self.positive, self.positive_bias), self.logits(self.negative, self.bias) - offset]
            values = [self.values(getattr(self, part)) for part in host] + [-scale * self.values(self.negative)]
            flipped, _ = softmax_sum(torch.cat(logits, -1), torch.cat(values, 2))
            change = flipped - towards
            return towards + (without_part_along(change, towards) if rule == "flip orthogonal" else change)
        away, _ = self.over("negative") if cross else self.over("image", "negative")
        if rule == "nasa":
            return towards - scale * away
        if rule == "ong":
            return towards - scale * without_part_along(away, towards)
        order = int(rule[-1])
        far = scale * towards - (scale - 1) * away
        ratio = norm(far, order) / norm(towards, order)
        return alpha * far * torch.minimum(ratio, torch.full_like(ratio, tau)) / ratio + (1 - alpha) * towards

    def keys(self, part):
        key, value = (tensor.to(self.dtype) for tensor in getattr(self, part))
        bias = {"negative": self.bias, "positive": self.positive_bias}.get(part)
        return Keys(key, value, None if bias is None else bias.float())

    def rows(self, *parts, **options):
        """What the host's kernel leaves when it has seen these parts."""
        out, lse = self.over(*parts)
        return Rows(self.query.to(self.dtype), out.to(self.dtype), lse.float(), **options)


def without_part_along(change, along):
    flat, line = (x.transpose(1, 2).flatten(2) for x in (change, along))
    overlap = (flat * line).sum(-1) / (line * line).sum(-1)
    return change - overlap[:, None, :, None] * along


def norm(tensor, order):
    return tensor.transpose(1, 2).flatten(2).norm(order, -1)[:, None, :, None]


def case(
    rows=21, image=29, positive=11, negative=7, channels=40, heads=2, key_heads=None, dtype=torch.float32, batch=1
):
    def random(count, heads):
        return torch.randn(batch, heads, count, channels, device=DEVICE).to(dtype).double()

    keys = heads if key_heads is None else key_heads
    parts = [(random(count, keys), random(count, keys)) for count in (image, positive, negative)]
    return Case(random(rows, heads), *parts, dtype)


def run(rule, rows, negative, **options):
    """Launch the kernel for a rule; the result is what it wrote."""
    numbers = {**NUMBERS[rule], **{name: options.pop(name) for name in NUMBERS[rule] if name in options}}
    kind, _, detail = rule.partition(" ")
    if kind == "nag":
        numbers["norm"] = detail
    if kind == "flip" and detail:
        numbers[detail] = True
    observed = getattr(fused, kind)(rows, negative, **numbers, **options)
    out = rows.out if rows.into is None else rows.into
    return out if observed is None else (out, observed)


def assert_close(out, expected, case, scale):
    """Within four roundings of the largest number that was added up."""
    largest = max(part[1].abs().max().item() for part in (case.image, case.positive, case.negative))
    error = (out.double() - expected).abs().max().item()
    assert error <= 4 * torch.finfo(case.dtype).eps * (1 + 2 * scale) * largest


# Exactness ----------------------------------------------------------------------------------------------------------

SHAPES = [  # dtype, channels, rows, negative tokens: tiles of rows and keys are left partly empty, or there are several
    (torch.float32, 40, 37, 7),
    (torch.float16, 64, 130, 1),
    (torch.bfloat16, 128, 17, 70),
]


@pytest.mark.parametrize(("dtype", "channels", "rows", "negative"), SHAPES)
@pytest.mark.parametrize("rule", NUMBERS)
def test_cross_attention_follows_the_equation(rule, dtype, channels, rows, negative):
    call = case(rows=rows, negative=negative, channels=channels, dtype=dtype)
    out = run(rule, call.rows("positive"), call.keys("negative"))
    assert_close(out, call.expected(rule, cross=True, **NUMBERS[rule]), call, NUMBERS[rule]["scale"])


@pytest.mark.parametrize(("dtype", "channels", "rows", "negative"), SHAPES)
@pytest.mark.parametrize("rule", NUMBERS)
def test_joint_attention_follows_the_equation(rule, dtype, channels, rows, negative):
    call = case(rows=rows, positive=67, negative=negative, channels=channels, dtype=dtype)
    if rule in FLIPS:
        out = run(rule, call.rows("image", "positive"), call.keys("negative"))
    else:
        out = run(rule, call.rows("image"), call.keys("negative"), positive=call.keys("positive"))
    assert_close(out, call.expected(rule, **NUMBERS[rule]), call, NUMBERS[rule]["scale"])


@pytest.mark.parametrize("rule", [rule for rule in NUMBERS if rule not in FLIPS])
def test_what_both_prompts_share_may_come_beside_the_model_s_own_output(rule):
    call = case()
    shared = Shared(*call.rows("image")[1:3])
    out = run(rule, call.rows("image", "positive"), call.keys("negative"), shared=shared)
    assert_close(out, call.expected(rule, **NUMBERS[rule]), call, NUMBERS[rule]["scale"])


@pytest.mark.parametrize("rule", FLIPS)
def test_positive_words_may_weigh_more_to_image_rows(rule):
    call = case()
    call.positive_bias = torch.randn(1, 11, device=DEVICE)
    out = run(rule, call.rows("image"), call.keys("negative"), positive=call.keys("positive"))
    assert_close(out, call.expected(rule, **NUMBERS[rule]), call, NUMBERS[rule]["scale"])


@pytest.mark.parametrize("rule", NUMBERS)
def test_key_heads_may_be_fewer(rule):
    call = case(heads=4, key_heads=2)
    extra = {} if rule in FLIPS else {"positive": call.keys("positive")}
    seen = ("image", "positive") if rule in FLIPS else ("image",)
    out = run(rule, call.rows(*seen), call.keys("negative"), **extra)
    assert_close(out, call.expected(rule, **NUMBERS[rule]), call, NUMBERS[rule]["scale"])


def test_another_softmax_scale_counts_for_every_key():
    call = case()
    call.query *= 2  # so the usual scale makes the logits that half of it makes of the queries given
    rows = call.rows("image")._replace(query=(call.query / 2).float(), softmax_scale=2 * 40**-0.5)
    out = run("nag l1", rows, call.keys("negative"), positive=call.keys("positive"))
    assert_close(out, call.expected("nag l1", **NUMBERS["nag l1"]), call, 4.0)


# Numbers of a method ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", NUMBERS)
def test_numbers_may_differ_between_batch_rows(rule):
    call, numbers = case(batch=3), NUMBERS[rule]
    factors = (1.0, 0.5, 1.5)
    per_row = {
        name: torch.tensor([n * f for f in factors], device=DEVICE)[:, None, None] for name, n in numbers.items()
    }
    out = run(rule, call.rows("positive"), call.keys("negative"), **per_row)
    for row, factor in enumerate(factors):
        scaled = {name: torch.tensor(number * factor).item() for name, number in numbers.items()}
        alone = run(rule, call.rows("positive"), call.keys("negative"), **scaled)
        assert torch.equal(out[row], alone[row])


@pytest.mark.parametrize("rule", NUMBERS)
def test_numbers_may_be_tensors_without_axes(rule):
    call = case(rows=5)
    tensors = {name: torch.tensor(number, device=DEVICE) for name, number in NUMBERS[rule].items()}
    out = run(rule, call.rows("positive"), call.keys("negative"), **tensors)
    assert torch.equal(out, run(rule, call.rows("positive"), call.keys("negative")))


# Negatives ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", NUMBERS)
def test_each_key_may_be_hidden_or_weighed(rule):
    call = case(negative=20, batch=2)
    call.bias = torch.randn(2, 20, device=DEVICE)
    call.bias[0, 13:] = -inf
    call.bias[1, :5] = -inf
    out = run(rule, call.rows("positive"), call.keys("negative"))
    assert_close(out, call.expected(rule, cross=True, **NUMBERS[rule]), call, NUMBERS[rule]["scale"])


@pytest.mark.parametrize("rule", NUMBERS)
def test_two_halves_of_a_negative_equal_one_whole(rule):
    call = case()
    whole = run(rule, call.rows("positive"), call.keys("negative"))
    call.negative = tuple(torch.cat([tensor, tensor], 2) for tensor in call.negative)
    call.bias = torch.full((1, 14), log(0.5), device=DEVICE)
    assert_close(run(rule, call.rows("positive"), call.keys("negative")), whole.double(), call, NUMBERS[rule]["scale"])


# What must stay as it is, to the last bit ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("rule", NUMBERS)
def test_rows_without_a_negative_keep_what_came(rule, dtype):
    call = case(dtype=dtype, batch=2)
    call.bias = torch.zeros(2, 7, device=DEVICE)
    call.bias[1] = -inf
    shared = {} if rule in FLIPS else {"shared": Shared(*call.rows("image")[1:3])}
    rows = call.rows("image", "positive")
    came = rows.out.clone()
    out = run(rule, rows, call.keys("negative"), **shared)
    assert torch.equal(out[1], came[1])
    assert not torch.equal(out[0], came[0])


@pytest.mark.parametrize("rule", NUMBERS)
def test_no_negative_token_changes_nothing(rule):
    call = case(negative=0)
    rows = call.rows("positive")
    came = rows.out.clone()
    assert torch.equal(run(rule, rows, call.keys("negative")), came)


@pytest.mark.parametrize("offset", [inf, torch.tensor([inf, 0.0], device=DEVICE)[:, None, None]])
@pytest.mark.parametrize("rule", FLIPS)
def test_an_infinite_offset_changes_nothing(rule, offset):
    call = case(dtype=torch.float16, batch=2)
    rows = call.rows("positive")
    came = rows.out.clone()
    assert torch.equal(run(rule, rows, call.keys("negative"), offset=offset)[0], came[0])


@pytest.mark.parametrize("rule", NUMBERS)
def test_strength_blends_each_row_and_gives_either_end_to_the_last_bit(rule):
    call = case(batch=2)
    full = run(rule, call.rows("positive"), call.keys("negative"))
    came = call.rows("positive").out
    strength = torch.rand(2, 21, device=DEVICE)
    strength[0, :5], strength[1, :5] = 0.0, 1.0
    out = run(rule, call.rows("positive", strength=strength), call.keys("negative"))
    expected = came + strength[:, None, :, None] * (full - came)
    assert_close(out, expected.double(), call, NUMBERS[rule]["scale"])
    assert torch.equal(out[0, :, :5], came[0, :, :5])
    assert torch.equal(out[1, :, :5], full[1, :, :5])


@pytest.mark.parametrize("strength", [0.3, torch.tensor(0.3, device=DEVICE), torch.full((21,), 0.3, device=DEVICE)])
def test_strength_may_be_one_for_all(strength):
    call = case()
    out = run("nasa", call.rows("positive", strength=strength), call.keys("negative"))
    each = run("nasa", call.rows("positive", strength=torch.full((1, 21), 0.3, device=DEVICE)), call.keys("negative"))
    assert torch.equal(out, each)


@pytest.mark.parametrize("rule", NUMBERS)
def test_only_the_rows_asked_for_are_guided(rule):
    call = case(rows=200, channels=16, heads=1)
    came = call.rows("positive").out
    all_rows = run(rule, call.rows("positive"), call.keys("negative"))
    out = run(rule, call.rows("positive", guided=(70, 150)), call.keys("negative"))
    assert torch.equal(out[:, :, 70:150], all_rows[:, :, 70:150])
    assert torch.equal(out[:, :, :70], came[:, :, :70])
    assert torch.equal(out[:, :, 150:], came[:, :, 150:])


def test_a_row_that_sees_no_other_key_sees_the_negative():
    call = case()
    rows = call.rows("positive")
    rows.log_sum_exp[0, 0, 0], rows.out[0, 0, 0] = -inf, torch.nan
    out = run("flip", rows, call.keys("negative"))
    negative, _ = call.over("negative")
    assert_close(out[0, 0, 0], -2.5 * negative[0, 0, 0], call, 2.5)


# Memory -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", NUMBERS)
def test_any_layout_in_memory_will_do_and_the_result_may_go_elsewhere(rule):
    """Tensors cut out of (batch, tokens, heads, channels) with other tokens around, as projections leave them."""
    call = case(channels=24)
    plain = run(rule, call.rows("positive"), call.keys("negative"))

    def within(tensor):
        batch, heads, tokens, channels = tensor.shape
        wide = torch.full((batch, tokens + 9, heads, channels + 8), torch.nan, device=DEVICE, dtype=tensor.dtype)
        view = wide.transpose(1, 2)[:, :, 4 : 4 + tokens, :channels]
        view.copy_(tensor)
        return view, wide

    rows, keys = call.rows("positive"), call.keys("negative")
    into, wide = within(torch.zeros_like(rows.out))
    lse = torch.stack([rows.log_sum_exp, rows.log_sum_exp], -1)[..., 0]
    strided = Rows(within(rows.query)[0], within(rows.out)[0], lse, into=into)
    came = strided.out.clone()
    out = run(rule, strided, Keys(within(keys.key)[0], within(keys.value)[0]))
    assert torch.equal(out, plain)
    assert torch.equal(strided.out, came)
    assert wide.isnan().sum() == wide.numel() - into.numel()


@pytest.mark.parametrize(
    ("rule", "count"), [("flip", 1), ("flip orthogonal", 2), ("nasa", 1), ("ong", 2), ("nag l1", 2)]
)
def test_a_method_takes_one_launch_or_two(launches, rule, count):
    call = case(rows=5)
    run(rule, call.rows("image"), call.keys("negative"), positive=call.keys("positive"))
    assert len(launches) == count


# Observation --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", NUMBERS)
def test_what_is_observed_is_what_happened(rule):
    call = case(negative=20, batch=2)
    call.bias = torch.randn(2, 20, device=DEVICE)
    call.bias[1, :4] = -inf
    lengths = (4, 15, 1)
    of_key = torch.repeat_interleave(torch.arange(3), torch.tensor(lengths)).to(DEVICE, torch.int32)
    came = call.rows("image", "positive").out
    watch = Watch(of_key, 3)
    if rule in FLIPS:
        out, observed = run(rule, call.rows("image", "positive"), call.keys("negative"), watch=watch)
    else:
        positive = call.keys("positive")
        out, observed = run(rule, call.rows("image"), call.keys("negative"), positive=positive, watch=watch)
    assert isinstance(observed, Observed)
    logits = torch.cat([call.logits(call.image), call.logits(call.positive), call.logits(call.negative, call.bias)], -1)
    shares = torch.softmax(logits, -1)[..., 40:].split(lengths, -1)
    mass = torch.stack([share.sum(-1) for share in shares], 2)
    torch.testing.assert_close(observed.mass.double(), mass, atol=2e-6, rtol=0)
    torch.testing.assert_close(observed.length, came.square().sum(-1), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(observed.change, (out - came).square().sum(-1), atol=1e-4, rtol=1e-4)
    assert observed.mass[1, :, 0].abs().max() == 0


# Where it runs ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_compilers_for_gpus_accept_it_and_other_numbers_compile_nothing_anew():
    """In a process of its own: where the interpreter is on, nothing is compiled."""
    script = Path(__file__).with_name("compile_for_gpus.py")
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path), "TRITON_INTERPRET": "0"}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
