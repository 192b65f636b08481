"""Attention in parts: each part with its log-sum-exp, merged exactly.

Softmax over the union of key sets K₁, K₂, ... is the mean of the softmaxes over each set, weighted by exp of their
log-sum-exps. So a key set may be scaled or shifted on its own, and no dense mask is ever built.

Two ways lead there. Where a fused kernel returns the log-sum-exp, every part is one call and `merge` weighs the
results. Elsewhere (gradients wanted: the fused log-sum-exp has none; MPS and others) `merge` is one call of plain
attention over all the keys, with the shifts as a bias on the keys and the gains on the values. Same numbers either way.

Tensors are (batch, heads, tokens, channels).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vsf.errors import LayoutError
from vsf.kernels import Kernel, ungrouped
from vsf.spans import Places

Strength = float | Tensor
"""A number, a tensor without axes, or one value per row as (batch, 1, 1)."""

Plain = Callable[[Tensor, Tensor, Tensor, Tensor | None, float | None], Tensor]
"""(query, key, value, bias, scale) -> out, the bias boolean (True = visible) or added to the logits."""


@dataclass(frozen=True, slots=True, eq=False)
class HostAttention:
    """The host's own attention function, to be used in torch's place for what the unguided model attends to.

    plain: attention on (batch, heads, tokens, channels). fused: the same with the log-sum-exp (batch, heads, queries);
        None where it gives none. Then each result is one plain call over all the keys that it needs.
    takes_bias: whether the two take a bias; calls that need one are torch's own where they do not.
    """

    plain: Plain
    fused: Kernel | None = None
    takes_bias: bool = True


WIDE_PIECE = 2**24
"""Formulas on half-precision outputs are computed in float32 on pieces of so many numbers, not on a copy of all."""


def per_row(strength: Strength, axes: int) -> Strength:
    """Let one value per row multiply a tensor with so many axes, of which the batch is the first."""
    if not isinstance(strength, Tensor) or strength.dim() == 0:
        return strength
    return strength.reshape(-1, *(1,) * (axes - 1))


def plain_attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float | None) -> Tensor:
    """Attend as torch does; keys may have fewer heads, each for a group of the queries'."""
    if key.shape[1] != query.shape[1]:
        key, value = ungrouped(query, key, value)
    return F.scaled_dot_product_attention(query, key, value, bias, scale=scale)


class Source:
    """Queries, keys and values whose attention is computed when it is first asked for, and only once.

    bias: boolean (True = visible) or added to the logits. kernel: gives the output with its log-sum-exp; where it is
    None, plain attention gives the output alone. host: whose plain attention that is, torch's by default.
    """

    __slots__ = (
        "_log_sum_exp",
        "_out",
        "bias",
        "host",
        "is_empty",
        "is_fused",
        "kernel",
        "key",
        "query",
        "scale",
        "value",
    )

    def __init__(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        bias: Tensor | None,
        scale: float | None,
        kernel: Kernel | None,
        host: HostAttention | None = None,
    ) -> None:
        self.query, self.key, self.value, self.bias, self.scale = query, key, value, bias, scale
        self.kernel, self.host = kernel, host
        # Kernels crash where there is no query or no key.
        self.is_empty = query.shape[2] == 0 or key.shape[2] == 0
        self.is_fused = kernel is not None or self.is_empty
        self._out: Tensor | None = None
        self._log_sum_exp: Tensor | None = None

    @property
    def is_computed(self) -> bool:
        """Whether the output is there already."""
        return self._out is not None

    @property
    def out(self) -> Float[Tensor, "batch heads queries channels"]:
        """Attention output; zeros where there is no key."""
        if self._out is None:
            self._out = self.attend(self.value)
        return self._out

    @property
    def log_sum_exp(self) -> Float[Tensor, "batch heads queries"]:
        """Log of the sum of exp(logits) over the keys; -inf where there is no key."""
        if self._log_sum_exp is None and self.is_fused:
            self._out = self.attend(self.value)
        if self._log_sum_exp is None:
            self._log_sum_exp = _matmul_log_sum_exp(self)
        return self._log_sum_exp

    def attend(self, value: Tensor) -> Float[Tensor, "batch heads queries channels"]:
        """Attend to the keys with other values; the log-sum-exp, which does not depend on them, is kept."""
        query, bias = self.query, self.bias
        if self.is_empty:
            self._log_sum_exp = query.new_full(query.shape[:3], -torch.inf, dtype=_wide(query.dtype))
            return query.new_zeros((*query.shape[:3], value.shape[3]))
        if self.kernel is None:
            return _plain(self, bias)(query, self.key, value, bias, self.scale)
        if bias is not None and bias.dtype == torch.bool:
            bias = additive(bias, query.dtype)
        out, self._log_sum_exp = self.kernel(query, self.key, value, bias, self.scale)
        return out


class RowsOf(Source):
    """Some query rows of a wider source, picked out of its results instead of computed again.

    Kernels may round a row differently when it comes with other rows, so a result that must equal the host's to the
    last bit has to come out of a call of the host's own shape.
    """

    __slots__ = ("_places", "_wider")

    def __init__(self, wider: Source, places: Places, bias: Tensor | None) -> None:
        super().__init__(wider.query[:, :, places], wider.key, wider.value, bias, wider.scale, wider.kernel, wider.host)
        self._wider, self._places = wider, places

    def attend(self, value: Tensor) -> Tensor:
        """Pick the rows out of the wider result; for other values attend anew."""
        if value is not self.value:
            return super().attend(value)
        out = self._wider.out[:, :, self._places]
        if self.is_fused:
            self._log_sum_exp = self._wider.log_sum_exp[:, :, self._places]
        return out


@dataclass(frozen=True, slots=True, eq=False)
class Partial:
    """Attention over some of the keys: `out` (never scaled), `log_sum_exp` (shifted), `gain` for `merge`."""

    source: Source
    gain: Strength = 1.0
    shift: Strength = 0.0

    @property
    def out(self) -> Float[Tensor, "batch heads queries channels"]:
        """Output over these keys alone, before the gain."""
        return self.source.out

    @property
    def log_sum_exp(self) -> Float[Tensor, "batch heads queries"]:
        """Float32 (float64 for float64 inputs) log-sum-exp of the shifted logits."""
        log_sum_exp = self.source.log_sum_exp
        return log_sum_exp if _is(self.shift, 0) else log_sum_exp + self.shift

    def scaled(self, gain: Strength) -> "Partial":
        """Multiply these keys' values; a negative gain turns them around."""
        return Partial(self.source, self.gain * gain, self.shift)

    def shifted(self, delta: Strength) -> "Partial":
        """Add `delta` to these keys' logits; -inf hides them."""
        return Partial(self.source, self.gain, self.shift + delta)


def merge(*partials: Partial) -> Float[Tensor, "batch heads queries channels"]:
    """Attend to the union of the partials' keys: Σᵢ softmax(log_sum_exp)ᵢ · gainᵢ · outᵢ, in the dtype of the outputs.

    A partial with log-sum-exp -inf takes no part, to the last bit. Where none sees a key the result is 0.
    Raises LayoutError when the partials belong to different queries.
    """
    query, fused = partials[0].source.query, True
    for partial in partials:
        if partial.source.query.shape != query.shape:
            shapes = ", ".join(str(tuple(partial.source.query.shape)) for partial in partials)
            raise LayoutError(f"merge needs partials of the same queries, got query shapes {shapes}")
        fused = fused and partial.source.is_fused
    if not fused:
        return _joined(partials)
    outs: list[Tensor] = []
    log_sum_exps: list[Tensor] = []
    for partial in partials:
        if not partial.source.is_empty:  # no key weighs nothing
            outs.append(_scaled_out(partial))
            log_sum_exps.append(partial.log_sum_exp)
    if not outs:
        return partials[0].out
    return _weighed(outs, log_sum_exps)


def blend(start: Tensor, end: Tensor, share: float | Tensor) -> Tensor:
    """Return start + share·(end − start); a share of 0 or 1 gives either end to the last bit."""
    return torch.lerp(start, end, share.to(start.dtype) if isinstance(share, Tensor) else share)


def in_pieces(
    formula: Callable[..., Tensor], *outputs: Float[Tensor, "batch heads queries _"]
) -> Float[Tensor, "batch heads queries channels"]:
    """Apply a formula, each query row on its own, in float32 or wider; the result has the dtype of the first output.

    Outputs that are narrower are widened some rows at a time, so that no float32 copy of them all is kept.
    """
    first = outputs[0]
    wide = _wide(first.dtype)
    if first.dtype == wide:
        return formula(*outputs).to(wide)
    rows = first.shape[2]
    step = max(1, WIDE_PIECE * rows // max(1, first.numel()))
    pieces = [
        formula(*(output[:, :, start : start + step].to(wide) for output in outputs)).to(first.dtype)
        for start in range(0, max(rows, 1), step)
    ]
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, 2)


def additive(bias: Tensor, dtype: torch.dtype) -> Tensor:
    """Turn a boolean mask (True = visible) into one that is added to the logits; leave an additive one alone."""
    if bias.dtype != torch.bool:
        return bias
    return torch.zeros(bias.shape, dtype=dtype, device=bias.device).masked_fill(~bias, -torch.inf)


def finite(bias: Tensor, dtype: torch.dtype) -> Tensor:
    """Turn a mask into an additive one of this dtype without -inf: a row that sees no key must not become NaN."""
    return additive(bias, dtype).to(dtype).clamp(min=lowest(dtype))


def lowest(dtype: torch.dtype) -> float:
    """Half the most negative number: hides a key, and a logit added to it does not overflow."""
    return torch.finfo(dtype).min / 2


def _scaled_out(partial: Partial) -> Tensor:
    """The output times the gain, which few values bear before attention rather than many rows after it."""
    source, gain = partial.source, partial.gain
    if _is(gain, 1):
        return source.out
    if source.is_computed:
        gain = per_row(gain, 4)
        return source.out * (gain.to(source.out.dtype) if isinstance(gain, Tensor) else gain)
    return source.attend(_scaled_values(partial))


def _weighed(outs: list[Tensor], log_sum_exps: list[Tensor]) -> Tensor:
    """Σᵢ softmax(log_sum_exp)ᵢ · outᵢ. Two by two: each lerp leaves either end to the last bit."""
    total = log_sum_exps[0]
    weights: list[Tensor] = []
    for log_sum_exp in log_sum_exps[1:]:
        weights.append(torch.sigmoid(log_sum_exp - total).unsqueeze(-1))
        if len(weights) < len(outs) - 1:
            total = torch.logaddexp(total, log_sum_exp)
    if len(outs) == 2 and outs[0].dtype == weights[0].dtype:
        return torch.lerp(outs[0], outs[1], weights[0])
    if not weights:
        return outs[0].masked_fill((total == -torch.inf).unsqueeze(-1), 0)
    return in_pieces(_lerped, *outs, *weights)


def _lerped(*outs_and_weights: Tensor) -> Tensor:
    """Go from the first output to each of the others by its weight; there is one weight less than outputs."""
    outs = (len(outs_and_weights) + 1) // 2
    total = outs_and_weights[0]
    for out, weight in zip(outs_and_weights[1:outs], outs_and_weights[outs:], strict=True):
        total = torch.lerp(total, out, weight)
    return total


def _joined(partials: tuple[Partial, ...]) -> Tensor:
    """One call of plain attention over the keys of every partial."""
    first = partials[0].source
    query = first.query
    key = torch.cat([partial.source.key for partial in partials], 2)
    value = torch.cat([_scaled_values(partial) for partial in partials], 2)
    if key.shape[2] == 0 or query.shape[2] == 0:
        return query.new_zeros((*query.shape[:3], value.shape[3]))
    bias = _joined_bias(partials)
    return _plain(first, bias)(query, key, value, bias, first.scale)


def _plain(source: Source, bias: Tensor | None) -> Plain:
    """The host's plain attention, or torch's where the host has none of its own, or none that takes a bias."""
    host = source.host
    return plain_attention if host is None or (bias is not None and not host.takes_bias) else host.plain


def _scaled_values(partial: Partial) -> Tensor:
    gain, value = per_row(partial.gain, 4), partial.source.value
    return value * (gain.to(value.dtype) if isinstance(gain, Tensor) else gain)


def _joined_bias(partials: tuple[Partial, ...]) -> Tensor | None:
    """The biases side by side; None where nothing is biased or shifted, which leaves torch its fastest kernel."""
    if all(partial.source.bias is None and _is(partial.shift, 0) for partial in partials):
        return None
    biases = [_shifted_bias(partial) for partial in partials]
    leading = [max(sizes) for sizes in zip(*(bias.shape[:3] for bias in biases), strict=True)]
    return torch.cat([bias.expand(*leading, bias.shape[3]) for bias in biases], 3)


def _shifted_bias(partial: Partial) -> Tensor:
    """The partial's bias plus its shift, as (batch or 1, heads or 1, queries or 1, keys)."""
    source, shift = partial.source, partial.shift
    dtype, keys = source.query.dtype, source.key.shape[2]
    bias = source.query.new_zeros(1, 1, 1, 1) if source.bias is None else finite(source.bias, dtype)
    bias = bias.reshape(*(1,) * (4 - bias.dim()), *bias.shape)
    if isinstance(shift, Tensor):
        shift = shift.to(dtype).reshape(-1, 1, 1, 1)
    return (bias + shift).expand(-1, -1, -1, keys)


def _matmul_log_sum_exp(source: Source) -> Tensor:
    """Log-sum-exp that gradients can pass through, from the whole matrix of logits."""
    return torch.logsumexp(logits(source), -1)


def logits(source: Source) -> Float[Tensor, "batch heads queries keys"]:
    """The biased logits in float32, or float64 for float64 inputs."""
    wide = _wide(source.query.dtype)
    scale = source.query.shape[-1] ** -0.5 if source.scale is None else source.scale
    key = source.key.repeat_interleave(source.query.shape[1] // source.key.shape[1], 1)
    products = source.query.to(wide) @ key.to(wide).mT * scale
    return products if source.bias is None else products + additive(source.bias, wide)


def _is(strength: Strength, number: float) -> bool:
    """Whether a strength is this number; one in a tensor may be any, and looking at it would wait for the device."""
    return not isinstance(strength, Tensor) and strength == number


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32
