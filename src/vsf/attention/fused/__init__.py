"""Guidance in one or two Triton launches, after the host's own attention call. Importing this needs Triton.

Each function takes the image rows of one attention call as the host's kernel left them, and the few keys of the
negative prompt, and writes what the rows see under a method: `flip` for value sign flip and NegPiP, `nag`, `nasa` and
`ong`. The equations are those of `vsf.guidance`; arithmetic is float32 whatever the dtype. Without gradients.

A method's numbers are Python floats, or tensors without axes or with one value per batch row; other numbers compile
nothing anew. A row without a visible negative key, with strength 0 or, for `flip`, with offset inf keeps what came to
the last bit.
"""

from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vsf.attention.fused.kernels import guide

Number = float | Tensor
"""A number, a tensor without axes, or one value per batch row."""

DEVICES = {"cuda"}
"""Where Triton compiles to. Its interpreter also runs on the CPU, slowly: good for tests."""
MAX_CHANNELS = 256


class Keys(NamedTuple):
    """Further keys for the image rows: those of the negative prompts, side by side, or of the positive one.

    Heads may be fewer than the queries', each shared by as many neighbouring query heads.

    bias: added to the logits, float32: ln w of a token's negative (or of an emphasised word), -inf for padding.
    """

    key: Float[Tensor, "batch key_heads keys channels"]
    value: Float[Tensor, "batch key_heads keys channels"]
    bias: Float[Tensor, "#batch keys"] | None = None


class Rows(NamedTuple):
    """Query rows of one attention call, and what they got from the host's kernel.

    out: their attention over the host's keys. It is replaced by the guided one, unless `into` takes that.
    log_sum_exp: float32, of their logits. Only extrapolations that neither share keys nor watch do without.
    strength: m in out = Z⁺ + m·(guided − Z⁺); a number, or a tensor that broadcasts to (batch, rows).
    softmax_scale: of the logits; None = 1/√channels.
    into: where the result goes, of the shape of `out`. Writing into a part of a wider buffer saves a concatenation.
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
    """Ask for what is observed. of_key: the number of the negative prompt that each negative key belongs to."""

    of_key: Int[Tensor, " keys"]
    negatives: int


class Observed(NamedTuple):
    """What guidance did to each row, per head, to be averaged and summed as one likes.

    mass: share of the attention over host and negatives (before an offset) that each negative has.
    change, length: ‖out − Z⁺‖² and ‖Z⁺‖² over the channels.
    """

    mass: Float[Tensor, "batch heads negatives rows"]
    change: Float[Tensor, "batch heads rows"]
    length: Float[Tensor, "batch heads rows"]


def supports(*tensors: Tensor) -> bool:
    """Whether the kernel takes these queries, keys, values and outputs: (batch, heads, tokens, channels).

    On a GPU, in half or single precision, with no more than 256 channels, which stand side by side in memory.
    """
    return all(
        tensor.device.type in DEVICES
        and tensor.dtype in (torch.float16, torch.bfloat16, torch.float32)
        and tensor.shape[3] <= MAX_CHANNELS
        and tensor.stride(3) == 1
        for tensor in tensors
    )


def flip(
    rows: Rows,
    negative: Keys,
    scale: Number,
    offset: Number = 0.0,
    *,
    orthogonal: bool = False,
    positive: Keys | None = None,
    watch: Watch | None = None,
) -> Observed | None:
    """Let rows also see keys whose values are turned around: softmax([host, Q Knᵀ/√d − β]) · [host; −α Vn].

    Guo & Du, arXiv:2508.10931, value-flip equation, α = `scale`, β = `offset`; NegPiP for β = 0. One launch; two for
    `orthogonal`, which keeps of the change Δ only Δ − (⟨Δ,Z⁺⟩/⟨Z⁺,Z⁺⟩)·Z⁺, per token over the channels of all heads.

    positive: further keys of Z⁺ that `rows.out` has not seen, for words that weigh more to image rows than to text.
    """
    rule = "flip orthogonal" if orthogonal else "flip"
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
    """Extrapolate away from Z⁻, hold the norm back, blend: Z̃ = s·Z⁺ − (s−1)·Z⁻, Z̃·min(r, τ)/r, α·Z̃ + (1−α)·Z⁺.

    Chen et al., arXiv:2505.21179; r = ‖Z̃‖/‖Z⁺‖ over the channels of all heads. Two launches.

    What Z⁺ and Z⁻ are follows from what is given, here and in `nasa` and `ong`:
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
    """Subtract what rows get under the negative prompt: Z⁺ − s·Z⁻. Nguyen et al., arXiv:2412.02687. One launch."""
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
    """Launch the kernel for one rule, twice where it weighs tokens by sums over the channels of all heads."""
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
    """Powers of two that keep a program's float32 tiles in registers, and in the shared memory of consumer GPUs.

    Chosen by what the compiler makes of them for compute capability 8.6 to 9.0. Products of float32 are not left to
    tensor cores, which would round their operands, and take many more registers.
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
    """Strides of batch, heads and tokens; 0 where there is no tensor."""
    return _NO_STRIDES if tensor is None else tensor.stride()[:3]


def _key_strides(keys: Keys | None, batch: int) -> tuple[int, ...]:
    """Strides of keys, values and bias, whose keys stand side by side."""
    if keys is None:
        return (*_NO_STRIDES, *_NO_STRIDES, 0)
    bias = keys.bias
    return (*keys.key.stride()[:3], *keys.value.stride()[:3], 0 if bias is None else bias.expand(batch, -1).stride(0))


def _with_strides(*numbers: Number) -> list[Any]:
    """Each number, and how far it is from one batch row's to the next: None where it is no tensor."""
    flat: list[Any] = []
    for number in numbers:
        if isinstance(number, Tensor):
            flat += (number, 0 if number.numel() == 1 else number.stride(0))
        else:
            flat += (float(number), None)
    return flat
