"""Triton kernels that apply a method in one or two launches after the host's own attention call. Needs Triton.

Each function takes the image rows of one attention call as the host's kernel left them, and the few keys of the
negative prompt, and writes the guided rows: `flip` for value sign flip and NegPiP, `nag`, `nasa` and `ong`. The
equations are those of `vsf.guidance`; arithmetic is float32 for every dtype, and there are no gradients.

A method's numbers are Python floats, or tensors without axes or with one value per batch row; other numbers do not
compile anything anew. A row without a visible negative key, with strength 0 or, for `flip`, with offset inf keeps its
value to the last bit.
"""

from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vsf.attention.fused.kernels import guide

Number = float | Tensor
"""A number, a tensor without axes, or one value per batch row."""

DEVICES = {"cuda"}
"""Types of device that Triton compiles for. Its interpreter also runs on the CPU, slowly: tests add "cpu"."""


class Keys(NamedTuple):
    """Further keys for the image rows: those of the negative prompts, concatenated, or of the positive one.

    Heads may be fewer than the queries', each shared by as many neighbouring query heads.

    Attributes:
        key, value: of the tokens.
        bias: added to the logits, float32: ln w of a token's negative (or of an emphasised word), -inf for padding.
    """

    key: Float[Tensor, "batch key_heads keys channels"]
    value: Float[Tensor, "batch key_heads keys channels"]
    bias: Float[Tensor, "#batch keys"] | None = None


class Rows(NamedTuple):
    """Query rows of one attention call, with the results of the host's kernel for them.

    Attributes:
        query: the rows.
        out: their attention over the host's keys. It is replaced by the guided one, unless `into` takes that.
        log_sum_exp: float32, of their logits. Needed by all but extrapolations that neither share keys nor watch.
        strength: m in out = Z⁺ + m·(guided − Z⁺); a number, or a tensor that broadcasts to (batch, rows).
        softmax_scale: of the logits; None = 1/√channels.
        into: where the result goes. Writing into a part of a wider buffer saves a concatenation.
        guided: (start, stop) of the rows that the method acts on; None = all. The others get Z⁺.
    """

    query: Float[Tensor, "batch heads rows channels"]
    out: Float[Tensor, "batch heads rows channels"]
    log_sum_exp: Float[Tensor, "batch heads rows"] | None = None
    strength: Number = 1.0
    softmax_scale: float | None = None
    into: Float[Tensor, "batch heads rows channels"] | None = None
    guided: tuple[int, int] | None = None


class Shared(NamedTuple):
    """Attention of the rows over the keys that both prompts share (the image's), where `Rows.out` holds more."""

    out: Float[Tensor, "batch heads rows channels"]
    log_sum_exp: Float[Tensor, "batch heads rows"]


class Watch(NamedTuple):
    """A request to observe the effect of guidance.

    Attributes:
        of_key: the number of the negative prompt that each negative key belongs to.
        negatives: how many negative prompts there are.
    """

    of_key: Int[Tensor, " keys"]
    negatives: int


class Observed(NamedTuple):
    """The effect of guidance on each row, per head.

    Attributes:
        mass: share of the attention over host and negatives (before an offset) that each negative has.
        change: ‖out − Z⁺‖² over the channels.
        length: ‖Z⁺‖² over the channels.
    """

    mass: Float[Tensor, "batch heads negatives rows"]
    change: Float[Tensor, "batch heads rows"]
    length: Float[Tensor, "batch heads rows"]


def flip(
    rows: Rows,
    negative: Keys,
    scale: Number,
    offset: Number = 0.0,
    *,
    orthogonal: bool = False,
    centred: bool = False,
    positive: Keys | None = None,
    watch: Watch | None = None,
) -> Observed | None:
    """Let rows also see keys whose values are sign-flipped: softmax([host, Q Knᵀ/√d − β]) · [host; −α Vn].

    Guo & Du, arXiv:2508.10931, value-flip equation, α = `scale`, β = `offset`; NegPiP for β = 0. One launch; two for
    `orthogonal`, which keeps only Δ − (⟨Δ,Z⁺⟩/⟨Z⁺,Z⁺⟩)·Z⁺ of the change Δ, per token over the channels of all heads.
    With `centred` it is Z⁺ + α·w·(Z⁺ − Z_N) instead: Z_N the attention over these keys alone, w their share of it all.

    Args:
        rows: the rows to guide.
        negative: keys of the negative prompts.
        scale: α.
        offset: β.
        orthogonal: whether to keep only the orthogonal part of the change.
        centred: whether to flip about Z⁺ instead of about 0; not together with `orthogonal`.
        positive: further keys of Z⁺ that `rows.out` has not seen, for words that weigh more to image rows than to text.
        watch: a request to observe the effect.
    """
    rule = "flip orthogonal" if orthogonal else "flip centred" if centred else "flip"
    return _guide(rule, rows, negative, scale, offset=offset, positive=positive, watch=watch, weighs=orthogonal)


def nag(
    rows: Rows,
    negative: Keys,
    scale: Number,
    tau: Number,
    alpha: Number,
    norm: Literal["l1", "l2"] = "l1",
    *,
    positive: Keys | None = None,
    shared: Shared | None = None,
    watch: Watch | None = None,
) -> Observed | None:
    """Extrapolate away from Z⁻, limit the norm, blend: Z̃ = s·Z⁺ − (s−1)·Z⁻, Z̃·min(r, τ)/r, α·Z̃ + (1−α)·Z⁺.

    Chen et al., arXiv:2505.21179; r = ‖Z̃‖/‖Z⁺‖ over the channels of all heads. Two launches.

    Z⁺ and Z⁻ follow from the arguments, here and in `nasa` and `ong`:
    - neither `positive` nor `shared` (cross-attention): Z⁺ is `rows.out`, Z⁻ the attention over the negative alone;
    - `positive`: `rows.out` is over the shared keys alone; Z⁺ adds the positive prompt to it and Z⁻ the negative, so
      that attention from image to image is computed once;
    - `shared`: Z⁺ is `rows.out`, to the last bit where nothing acts; Z⁻ adds the negative to `shared`.
    """
    numbers: dict[str, Any] = {"scale": scale, "tau": tau, "alpha": alpha}
    return _guide(f"nag {norm}", rows, negative, **numbers, positive=positive, shared=shared, watch=watch, weighs=True)


def nasa(
    rows: Rows,
    negative: Keys,
    scale: Number,
    *,
    positive: Keys | None = None,
    shared: Shared | None = None,
    watch: Watch | None = None,
) -> Observed | None:
    """Subtract the rows' output under the negative prompt: Z⁺ − s·Z⁻. Nguyen et al., arXiv:2412.02687. One launch."""
    return _guide("nasa", rows, negative, scale, positive=positive, shared=shared, watch=watch)


def ong(
    rows: Rows,
    negative: Keys,
    scale: Number,
    *,
    positive: Keys | None = None,
    shared: Shared | None = None,
    watch: Watch | None = None,
) -> Observed | None:
    """Subtract the part of Z⁻ orthogonal to Z⁺: Z⁺ − s·(Z⁻ − (⟨Z⁻,Z⁺⟩/⟨Z⁺,Z⁺⟩)·Z⁺). arXiv:2605.29390. Two launches."""
    return _guide("ong", rows, negative, scale, positive=positive, shared=shared, watch=watch, weighs=True)


def _guide(
    rule: str,
    rows: Rows,
    negative: Keys,
    scale: Number,
    *,
    offset: Number = 0.0,
    tau: Number = 0.0,
    alpha: Number = 0.0,
    positive: Keys | None = None,
    shared: Shared | None = None,
    watch: Watch | None = None,
    weighs: bool = False,
) -> Observed | None:
    """Launch the kernel for one rule: twice where it weighs tokens by sums over the channels of all heads."""
    query, out, log_sum_exp, strength, softmax_scale, into, guided = rows
    batch, heads, length, channels = query.shape
    into = out if into is None else into
    sums = query.new_empty((2, batch, heads, length), dtype=torch.float32) if weighs else None
    mass = norms = of_key = None
    if watch is not None:
        of_key = watch.of_key
        mass = query.new_empty((batch, heads, watch.negatives, length), dtype=torch.float32)
        norms = query.new_empty((2, batch, heads, length), dtype=torch.float32)

    sizes = _tile_sizes(query, negative)
    arguments = (
        *(query, out, log_sum_exp, into, *(positive or _NO_KEYS), *negative, *(shared or _NOTHING_SHARED)),
        *(strength, sums, mass, norms, of_key),
        *(*query.stride()[:3], *out.stride()[:3], *_strides(log_sum_exp), *into.stride()[:3]),
        *(*_key_strides(positive, batch), *_key_strides(negative, batch)),
        *(_NO_STRIDES * 2 if shared is None else (*_strides(shared.out), *_strides(shared.log_sum_exp))),
        *(strength.expand(batch, length).stride() if isinstance(strength, Tensor) else (None, None)),
        *_with_strides(scale, offset, tau, alpha),
        *(heads, length, heads // negative.key.shape[1]),
        *(0 if positive is None else positive.key.shape[2], negative.key.shape[2]),
        *(0 if watch is None else watch.negatives, *((0, length) if guided is None else guided)),
        channels**-0.5 if softmax_scale is None else softmax_scale,
    )
    grid = (-(-length // sizes["ROWS"]), batch * heads)
    if weighs:
        guide[grid](*arguments, RULE=rule, MEASURE=True, **sizes)
    guide[grid](*arguments, RULE=rule, MEASURE=False, **sizes)
    return None if mass is None or norms is None else Observed(mass, norms[0], norms[1])


def _tile_sizes(query: Tensor, negative: Keys) -> dict[str, int]:
    """Return tile sizes, powers of two that keep a program's float32 tiles in registers and in shared memory.

    They were chosen from the code that the compiler generates for compute capability 8.6 to 9.0, consumer GPUs
    included.
    Products of float32 do not use tensor cores, which would round their operands, and take many more registers.
    """
    exact = query.dtype == torch.float32
    heads, channels, keys = query.shape[1], query.shape[3], negative.key.shape[2]
    width = max(16, 1 << (channels - 1).bit_length())
    few_keys = 16 if exact or keys <= 16 else 32 if keys <= 32 or width > 64 else 64
    return {
        "ROWS": max(16, min(128, (2048 if exact else 8192) // width)),
        "PKEYS": 16 if exact else 32 if width > 64 else 64,
        "KEYS": few_keys,
        "HEADS": 1 << (heads - 1).bit_length(),
        "D": width,
        "DIM": channels,
        "num_warps": 4 if exact else 8,
        "num_stages": 2,
    }


_NO_KEYS = (None, None, None)
_NOTHING_SHARED = (None, None)
_NO_STRIDES = (0, 0, 0)


def _strides(tensor: Tensor | None) -> tuple[int, ...]:
    """Return the strides of batch, heads and tokens; 0 where there is no tensor."""
    return _NO_STRIDES if tensor is None else tensor.stride()[:3]


def _key_strides(keys: Keys | None, batch: int) -> tuple[int, ...]:
    """Return the strides of keys, values and bias; the bias is contiguous along the keys."""
    if keys is None:
        return (*_NO_STRIDES, *_NO_STRIDES, 0)
    bias = keys.bias
    return (*keys.key.stride()[:3], *keys.value.stride()[:3], 0 if bias is None else bias.expand(batch, -1).stride(0))


def _with_strides(*numbers: Number) -> list[Any]:
    """Return each number followed by its stride over batch rows, None where it is not a tensor."""
    flat: list[Any] = []
    for number in numbers:
        if isinstance(number, Tensor):
            flat += (number, 0 if number.numel() == 1 else number.stride(0))
        else:
            flat += (float(number), None)
    return flat
