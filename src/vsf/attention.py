"""Attention in parts: each part with its log-sum-exp, merged exactly.

Softmax over the union of key sets K₁, K₂, ... is the mean of the softmaxes over each set, weighted by exp of their
log-sum-exps. So a key set may be scaled or shifted on its own, and no dense mask is ever built.

Two ways lead there. Where a fused kernel returns the log-sum-exp, every part is one call and `merge` weighs the
results. Elsewhere (gradients wanted: the fused log-sum-exp has none; MPS and others) `merge` is one call of torch's
attention over all the keys, with the shifts as a bias on the keys and the gains on the values. Same numbers either way.

Tensors are (batch, heads, tokens, channels).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from vsf.errors import LayoutError
from vsf.kernels import kernel_for

Strength = float | Tensor
"""A number, a tensor without axes, or one value per row as (batch, 1, 1)."""


def per_row(strength: Strength, axes: int) -> Strength:
    """Let one value per row multiply a tensor with so many axes, of which the batch is the first."""
    if not isinstance(strength, Tensor) or strength.dim() == 0:
        return strength
    return strength.reshape(-1, *(1,) * (axes - 1))


class Source:
    """Queries, keys and values whose attention is computed when it is first asked for, and only once."""

    def __init__(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float | None) -> None:
        self.query, self.key, self.value, self.bias, self.scale = query, key, value, bias, scale
        self.kernel = kernel_for(query, key, value, bias)
        self._out: Tensor | None = None
        self._log_sum_exp: Tensor | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is no query or no key; kernels crash on either."""
        return self.query.shape[2] == 0 or self.key.shape[2] == 0

    @property
    def is_fused(self) -> bool:
        """Whether the log-sum-exp comes with the output."""
        return self.kernel is not None or self.is_empty

    @property
    def is_computed(self) -> bool:
        """Whether the output is there already."""
        return self._out is not None

    @property
    def out(self) -> Float[Tensor, "batch heads queries channels"]:
        """Attention output; zeros where there is no key."""
        if self._out is None:
            self._attend()
        assert self._out is not None
        return self._out

    @property
    def log_sum_exp(self) -> Float[Tensor, "batch heads queries"]:
        """Log of the sum of exp(logits) over the keys; -inf where there is no key."""
        if self._log_sum_exp is None and self.is_fused:
            self._attend()
        if self._log_sum_exp is None:
            self._log_sum_exp = _matmul_log_sum_exp(self)
        return self._log_sum_exp

    def _attend(self) -> None:
        query, key, value = self.query, self.key, self.value
        if self.is_empty:
            self._out = query.new_zeros((*query.shape[:3], value.shape[3]))
            self._log_sum_exp = query.new_full(query.shape[:3], -torch.inf, dtype=_wide(query.dtype))
        elif self.kernel is None:
            self._out = F.scaled_dot_product_attention(query, key, value, self.bias, scale=self.scale)
        else:
            bias = None if self.bias is None else additive(self.bias, query.dtype)
            self._out, self._log_sum_exp = self.kernel(query, key, value, bias, self.scale)


class RowsOf(Source):
    """Some query rows of a wider source, picked out of its results instead of computed again.

    Kernels may round a row differently when it comes with other rows, so a result that must equal the host's to the
    last bit has to come out of a call of the host's own shape.
    """

    def __init__(self, wider: Source, pick: Callable[[Tensor], Tensor], bias: Tensor | None) -> None:
        super().__init__(pick(wider.query), wider.key, wider.value, bias, wider.scale)
        self.kernel = wider.kernel
        self._wider, self._pick = wider, pick

    def _attend(self) -> None:
        self._out = self._pick(self._wider.out)
        if self.is_fused:
            self._log_sum_exp = self._pick(self._wider.log_sum_exp)


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
        return self.source.log_sum_exp + self.shift

    def scaled(self, gain: Strength) -> "Partial":
        """Multiply these keys' values; a negative gain turns them around."""
        return replace(self, gain=self.gain * gain)

    def shifted(self, delta: Strength) -> "Partial":
        """Add `delta` to these keys' logits; -inf hides them."""
        return replace(self, shift=self.shift + delta)


def partial_attention(
    query: Float[Tensor, "batch heads queries channels"],
    key: Float[Tensor, "batch heads keys channels"],
    value: Float[Tensor, "batch heads keys channels"],
    *,
    bias: Float[Tensor, "..."] | Bool[Tensor, "..."] | None = None,
    scale: float | None = None,
) -> Partial:
    """Attend to some keys, keeping the log-sum-exp for `merge`. `bias` broadcasts to (batch, heads, queries, keys)."""
    return Partial(Source(query, key, value, bias, scale))


def merge(*partials: Partial) -> Float[Tensor, "batch heads queries channels"]:
    """Attend to the union of the partials' keys: Σᵢ softmax(log_sum_exp)ᵢ · gainᵢ · outᵢ, in the dtype of the outputs.

    A partial with log-sum-exp -inf takes no part, to the last bit. Where none sees a key the result is 0.
    Raises LayoutError when the partials belong to different queries.
    """
    first = partials[0].source
    if any(partial.source.query.shape != first.query.shape for partial in partials):
        shapes = ", ".join(str(tuple(partial.source.query.shape)) for partial in partials)
        raise LayoutError(f"merge needs partials of the same queries, got query shapes {shapes}")
    if not all(partial.source.is_fused for partial in partials):
        return _joined(partials)
    weighted = zip(partials, shares(*partials), strict=True)
    terms = [(share * part.gain).unsqueeze(-1) * part.out for part, share in weighted]
    total: Tensor = sum(terms[1:], terms[0])
    return total.to(first.query.dtype)


def shares(*partials: Partial) -> Float[Tensor, "partials batch heads queries"]:
    """Return the part of a query's attention that the keys of each partial get; 0 for all where none is seen."""
    return _softmax(torch.stack([partial.log_sum_exp for partial in partials]))


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


def _softmax(log_sum_exps: Tensor) -> Tensor:
    """Softmax over the first axis that gives 0, not NaN, where every entry is -inf."""
    top = log_sum_exps.amax(0).detach()
    powers = torch.exp(log_sum_exps - top.masked_fill(top == -torch.inf, 0.0))
    return powers / powers.sum(0).clamp(min=torch.finfo(powers.dtype).tiny)


def _joined(partials: tuple[Partial, ...]) -> Tensor:
    """One call of torch's attention over the keys of every partial."""
    query, scale = partials[0].source.query, partials[0].source.scale
    key = torch.cat([partial.source.key for partial in partials], 2)
    value = torch.cat([_scaled_values(partial) for partial in partials], 2)
    if key.shape[2] == 0:
        return query.new_zeros((*query.shape[:3], value.shape[3]))
    return F.scaled_dot_product_attention(query, key, value, _joined_bias(partials), scale=scale)


def _scaled_values(partial: Partial) -> Tensor:
    gain, value = per_row(partial.gain, 4), partial.source.value
    return value * (gain.to(value.dtype) if isinstance(gain, Tensor) else gain)


def _joined_bias(partials: tuple[Partial, ...]) -> Tensor | None:
    """The biases side by side; None where nothing is biased or shifted, which leaves torch its fastest kernel."""
    if all(part.source.bias is None and not isinstance(part.shift, Tensor) and part.shift == 0 for part in partials):
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
    wide = _wide(source.query.dtype)
    scale = source.query.shape[-1] ** -0.5 if source.scale is None else source.scale
    logits = source.query.to(wide) @ source.key.to(wide).mT * scale
    return torch.logsumexp(logits if source.bias is None else logits + additive(source.bias, wide), -1)


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32
