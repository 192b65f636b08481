"""Partial attention: attention over sets of keys, each with its log-sum-exp, merged exactly.

Softmax attention over the union of key sets K₁, K₂, ... is the mean of the attentions over each set, weighted by exp of
their log-sum-exps. So a key set may be scaled or shifted on its own, and no dense mask is ever built.

There are two implementations, which give the same numbers. Where a fused kernel returns the log-sum-exp, every part is
one call and `merge` weighs the results. Elsewhere (gradients wanted: the fused log-sum-exp has none; MPS and others)
`merge` is one call of plain attention over all the keys, with the shifts as a bias on the keys and the gains on the
values.

Tensors are (batch, heads, tokens, channels).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vsf.attention.kernels import Kernel
from vsf.attention.layout import Places
from vsf.errors import LayoutError

Strength = float | Tensor
"""A number, a tensor without axes, or one value per row as (batch, 1, 1)."""

Plain = Callable[..., Tensor]
"""plain(query, key, value, bias, scale=scale), as torch's own; the bias is boolean (True = visible) or additive."""


@dataclass(frozen=True, slots=True, eq=False)
class HostAttention:
    """The host's own attention function, used instead of torch's for the keys of the unguided model.

    Attributes:
        plain: attention on (batch, heads, tokens, channels).
        fused: the same with the log-sum-exp, (batch, heads, queries); None where the function gives none. Then each
            result is one plain call over all the keys that it needs.
        takes_bias: whether both take a bias; where they do not, calls that need one use torch's own attention.
    """

    plain: Plain
    fused: Kernel | None = None
    takes_bias: bool = True


WIDE_PIECE = 2**24
"""How many numbers of a half-precision output are widened to float32 at a time; a copy of all would be too large."""


def per_row(strength: Strength, axes: int) -> Strength:
    """Reshape one value per batch row so that it multiplies a tensor with this many axes, the batch first."""
    if not isinstance(strength, Tensor) or strength.dim() == 0:
        return strength
    return strength.reshape(-1, *(1,) * (axes - 1))


class Partial:
    """Attention of some queries over some keys, computed when it is first read.

    Attributes:
        query, key, value: (batch, heads, tokens, channels).
        bias: boolean (True = visible) or added to the logits.
        scale: of the logits; None = 1/√channels.
        kernel: gives the output with its log-sum-exp; None where only plain attention is available, without.
        host: whose plain attention that is; None is torch's.
        gain: of the values, where the partial is merged with others.
        shift: of the logits, likewise.
        wider: a partial of more queries over the same keys, from whose results these are cut. Kernels may round a row
            differently when it comes with other rows, so a result that must equal the host's to the last bit has to
            be cut out of a call of the host's own shape.
        places: where these queries stand among those of `wider`.
        is_empty: whether there is no query or no key.
        is_fused: whether the log-sum-exp comes with the output.
        computed: the output before the gain, once it is there.
    """

    __slots__ = (
        "_log_sum_exp",
        "bias",
        "computed",
        "gain",
        "host",
        "is_empty",
        "is_fused",
        "kernel",
        "key",
        "places",
        "query",
        "scale",
        "shift",
        "value",
        "wider",
    )

    def __init__(
        self,
        query: Float[Tensor, "batch heads queries channels"],
        key: Float[Tensor, "batch heads keys channels"],
        value: Float[Tensor, "batch heads keys channels"],
        bias: Tensor | None,
        scale: float | None,
        kernel: Kernel | None,
        host: HostAttention | None = None,
        gain: Strength = 1.0,
        shift: Strength = 0.0,
        wider: "Partial | None" = None,
        places: Places = slice(None),
    ) -> None:
        self.query = query
        self.key = key
        self.value = value
        self.bias = bias
        self.scale = scale
        self.kernel = kernel
        self.host = host
        self.gain = gain
        self.shift = shift
        self.wider = wider
        self.places = places
        # Kernels crash where there is no query or no key.
        self.is_empty = query.shape[2] == 0 or key.shape[2] == 0
        self.is_fused = kernel is not None or self.is_empty
        self.computed: Tensor | None = None
        self._log_sum_exp: Tensor | None = None

    @property
    def out(self) -> Float[Tensor, "batch heads queries channels"]:
        """Output over these keys alone, before the gain; zeros where there is no key."""
        return self.attend() if self.computed is None else self.computed

    @property
    def log_sum_exp(self) -> Float[Tensor, "batch heads queries"]:
        """Float32 (float64 for float64 inputs) log-sum-exp of the shifted logits; -inf where there is no key."""
        if self._log_sum_exp is None and self.is_fused:
            self.attend()
        if self._log_sum_exp is None:
            self._log_sum_exp = torch.logsumexp(self.logits(), -1)
        return self._log_sum_exp + self.shift

    def scaled(self, gain: Strength) -> "Partial":
        """Multiply these keys' values; a negative gain flips their sign."""
        inputs = (self.query, self.key, self.value, self.bias, self.scale, self.kernel, self.host)
        return Partial(*inputs, gain=self.gain * gain, shift=self.shift)

    def shifted(self, delta: Strength) -> "Partial":
        """Add `delta` to these keys' logits; -inf hides them."""
        if not isinstance(delta, Tensor) and delta == 0:
            return self
        inputs = (self.query, self.key, self.value, self.bias, self.scale, self.kernel, self.host)
        return Partial(*inputs, gain=self.gain, shift=self.shift + delta)

    def attend(self, value: Tensor | None = None) -> Float[Tensor, "batch heads queries channels"]:
        """Compute the output and the log-sum-exp, and keep both.

        Args:
            value: other values for the same keys. The output is then only returned; the log-sum-exp, which does not
                depend on them, is kept.
        """
        query = self.query
        bias = self.bias
        wider = self.wider
        if wider is not None and value is None:
            out = (wider.attend() if wider.computed is None else wider.computed)[:, :, self.places]
            if wider._log_sum_exp is not None:
                self._log_sum_exp = wider._log_sum_exp[:, :, self.places]
        elif self.is_empty:
            out = query.new_zeros((*query.shape[:3], self.value.shape[3]))
            self._log_sum_exp = query.new_full(query.shape[:3], -torch.inf, dtype=_wide(query.dtype))
        elif self.kernel is None:
            plain = _plain(self, bias)
            out = plain(query, self.key, self.value if value is None else value, bias, scale=self.scale)
        else:
            if bias is not None and bias.dtype == torch.bool:
                bias = additive(bias, query.dtype)
            values = self.value if value is None else value
            out, self._log_sum_exp = self.kernel(query, self.key, values, attn_mask=bias, scale=self.scale)
        if value is None:
            self.computed = out
        return out

    def logits(self) -> Float[Tensor, "batch heads queries keys"]:
        """Return the biased logits, not shifted, in float32 or wider; gradients can pass through them."""
        query = self.query
        wide_dtype = _wide(query.dtype)
        scale = query.shape[-1] ** -0.5 if self.scale is None else self.scale
        products = query.to(wide_dtype) @ self.key.to(wide_dtype).mT * scale
        return products if self.bias is None else products + additive(self.bias, wide_dtype)


def merge(*partials: Partial) -> Float[Tensor, "batch heads queries channels"]:
    """Attend to the union of the partials' keys: Σᵢ softmax(log_sum_exp)ᵢ · gainᵢ · outᵢ, in the dtype of the outputs.

    A partial with log-sum-exp -inf takes no part, to the last bit. Where none sees a key the result is 0.

    Raises:
        LayoutError: the partials belong to different queries.
    """
    query = partials[0].query
    fused = True
    for partial in partials:
        if partial.query.shape != query.shape:
            shapes = ", ".join(str(tuple(partial.query.shape)) for partial in partials)
            raise LayoutError(f"merge needs partials of the same queries, got query shapes {shapes}")
        fused = fused and partial.is_fused
    if not fused:
        return _joined(partials)
    outs: list[Tensor] = []
    log_sum_exps: list[Tensor] = []
    for partial in partials:
        if partial.is_empty:
            continue
        gain = partial.gain
        shift = partial.shift
        # The values of a part are scaled, not its output: parts with a gain have few keys for many queries.
        if isinstance(gain, Tensor) or gain != 1:
            outs.append(partial.attend(_scaled_values(partial) if isinstance(gain, Tensor) else partial.value * gain))
        else:
            outs.append(partial.attend() if partial.computed is None else partial.computed)
        log_sum_exp = partial._log_sum_exp
        assert log_sum_exp is not None
        if isinstance(shift, Tensor) or shift != 0:
            log_sum_exp = log_sum_exp + shift
        log_sum_exps.append(log_sum_exp)
    # The most frequent case in one operation: softmax over two numbers is the sigmoid of their difference.
    if len(outs) == 2 and outs[0].dtype == log_sum_exps[0].dtype:
        return torch.lerp(outs[0], outs[1], torch.sigmoid(log_sum_exps[1] - log_sum_exps[0]).unsqueeze(-1))
    return _weighed(outs, log_sum_exps) if outs else partials[0].out


def towards_merged(
    own: Float[Tensor, "batch heads queries channels"], parts: Sequence[Partial], more: Partial, share: Strength
) -> Float[Tensor, "batch heads queries channels"]:
    """Return own + share·(merge(*parts, more) − own), where own is merge(*parts); a negative share goes away from it.

    Args:
        own: attention over the keys of `parts`, returned to the last bit where the share is 0 or no key is added.
        parts: partials without gain.
        more: a partial without gain whose keys are added.
        share: any number, or one value per row as (batch, 1, 1, 1).
    """
    if not all(partial.is_fused for partial in (*parts, more)):
        merged = merge(*parts, more)
        return in_pieces(lambda start, end: blend(start, end, share), own, merged)
    # The merged output is own + w·(out − own) with w = the share of the softmax that the added keys have. It is not
    # rounded on its own: a large share would magnify the rounding.
    total = parts[0].log_sum_exp
    for part in parts[1:]:
        total = torch.logaddexp(total, part.log_sum_exp)
    added = more.log_sum_exp
    # Where no key is seen at all the sigmoid of a difference of infinities would be NaN.
    weight = torch.sigmoid(added - total).masked_fill(added == -torch.inf, 0).unsqueeze(-1)
    return in_pieces(torch.lerp, own, more.out, weight * share)


def blend(start: Tensor, end: Tensor, share: float | Tensor) -> Tensor:
    """Return start + share·(end − start); a share of 0 or 1 gives either end to the last bit."""
    return torch.lerp(start, end, share.to(start.dtype) if isinstance(share, Tensor) else share)


def in_pieces(
    formula: Callable[..., Tensor], *outputs: float | Float[Tensor, "..."]
) -> Float[Tensor, "batch heads queries channels"]:
    """Apply a formula to attention outputs in float32 or wider; the result has the dtype of the first output.

    Args:
        formula: treats each query row by itself.
        outputs: those of half precision are widened some rows at a time, so that no float32 copy of all rows is kept.
            After the first one also numbers, and tensors (batch, 1, queries, 1).
    """
    first = outputs[0]
    assert isinstance(first, Tensor)
    wide_dtype = _wide(first.dtype)
    if first.dtype == wide_dtype:
        return formula(*outputs).to(wide_dtype)
    rows = first.shape[2]
    step = max(1, WIDE_PIECE * rows // max(1, first.numel()))
    pieces = []
    for start in range(0, max(rows, 1), step):
        widened = [_widened(output, start, start + step, wide_dtype) for output in outputs]
        pieces.append(formula(*widened).to(first.dtype))
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, 2)


def _widened(output: float | Tensor, start: int, stop: int, dtype: torch.dtype) -> float | Tensor:
    """Return some rows of an output in another dtype; what is the same for all rows as it is."""
    if not isinstance(output, Tensor) or output.dim() < 4:
        return output
    return (output if output.shape[2] == 1 else output[:, :, start:stop]).to(dtype)


def additive(bias: Tensor, dtype: torch.dtype) -> Tensor:
    """Turn a boolean mask (True = visible) into one that is added to the logits; leave an additive one alone."""
    if bias.dtype != torch.bool:
        return bias
    return torch.zeros(bias.shape, dtype=dtype, device=bias.device).masked_fill(~bias, -torch.inf)


def finite(bias: Tensor, dtype: torch.dtype) -> Tensor:
    """Turn a mask into an additive one of this dtype without -inf: a row that sees no key must not become NaN."""
    return additive(bias, dtype).to(dtype).clamp(min=lowest(dtype))


def lowest(dtype: torch.dtype) -> float:
    """Return half the most negative number of a dtype: it hides a key, and a logit added to it does not overflow."""
    return torch.finfo(dtype).min / 2


def _weighed(outs: list[Tensor], log_sum_exps: list[Tensor]) -> Tensor:
    """Return Σᵢ softmax(log_sum_exp)ᵢ · outᵢ, two by two: each lerp leaves either end to the last bit."""
    total = log_sum_exps[0]
    if len(outs) == 1:
        return outs[0].masked_fill((total == -torch.inf).unsqueeze(-1), 0)
    weights = []
    for log_sum_exp in log_sum_exps[1:]:
        weights.append(torch.sigmoid(log_sum_exp - total).unsqueeze(-1))
        total = torch.logaddexp(total, log_sum_exp)
    return in_pieces(_lerped, *outs, *weights)


def _lerped(*outs_and_weights: Tensor) -> Tensor:
    """Interpolate from the first output to each of the others by its weight.

    Args:
        outs_and_weights: n outputs, then n − 1 weights: `in_pieces` cuts all of them alike.
    """
    outs = (len(outs_and_weights) + 1) // 2
    total = outs_and_weights[0]
    for out, weight in zip(outs_and_weights[1:outs], outs_and_weights[outs:], strict=True):
        total = torch.lerp(total, out, weight)
    return total


def _joined(partials: tuple[Partial, ...]) -> Tensor:
    """Make one call of plain attention over the keys of every partial."""
    first = partials[0]
    query = first.query
    key = torch.cat([partial.key for partial in partials], 2)
    value = torch.cat([_scaled_values(partial) for partial in partials], 2)
    if key.shape[2] == 0 or query.shape[2] == 0:
        return query.new_zeros((*query.shape[:3], value.shape[3]))
    bias = _joined_bias(partials)
    return _plain(first, bias)(query, key, value, bias, scale=first.scale)


def _plain(partial: Partial, bias: Tensor | None) -> Plain:
    """Return the host's plain attention, or torch's where the host has none of its own, or none that takes a bias."""
    host = partial.host
    if host is None or (bias is not None and not host.takes_bias):
        return F.scaled_dot_product_attention
    return host.plain


def _scaled_values(partial: Partial) -> Tensor:
    gain = partial.gain
    value = partial.value
    if not isinstance(gain, Tensor):
        return value * gain
    return value * gain.to(value.dtype).reshape(-1, 1, 1, 1)


def _joined_bias(partials: tuple[Partial, ...]) -> Tensor | None:
    """Concatenate the biases; None where nothing is biased or shifted, which leaves torch its fastest kernel."""
    is_biased = False
    for partial in partials:
        is_shifted = isinstance(partial.shift, Tensor) or partial.shift != 0
        is_biased = is_biased or is_shifted or partial.bias is not None
    if not is_biased:
        return None
    biases = [_shifted_bias(partial) for partial in partials]
    # A size is 1 where a bias does not depend on batch, heads or queries.
    leading = list(biases[0].shape[:3])
    for bias in biases[1:]:
        leading = [max(sizes) for sizes in zip(leading, bias.shape[:3], strict=True)]
    return torch.cat([bias.expand(*leading, bias.shape[3]) for bias in biases], 3)


def _shifted_bias(partial: Partial) -> Tensor:
    """Return the partial's bias plus its shift, (batch or 1, heads or 1, queries or 1, keys)."""
    query = partial.query
    shift = partial.shift
    dtype = query.dtype
    keys = partial.key.shape[2]
    bias = query.new_zeros(1, 1, 1, 1) if partial.bias is None else finite(partial.bias, dtype)
    bias = bias.reshape(*(1,) * (4 - bias.dim()), *bias.shape)
    if isinstance(shift, Tensor):
        shift = shift.to(dtype).reshape(-1, 1, 1, 1)
    return (bias + shift).expand(-1, -1, -1, keys)


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32
