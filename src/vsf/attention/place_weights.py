"""Weights of negatives that differ from one image token to the next, without a dense mask."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vsf.attention.partial import Partial, Strength, lowest, merge

_ABSENT = lowest(torch.float32)
"""The logarithm of a weight of 0: finite, so that a query without any negative does not become NaN."""

Shift = Float[Tensor, "batch 1 queries"]


class PlaceWeights:
    """How much each negative weighs on each image token.

    Rows that stand for no place in the picture, those of text, follow the least weight of each negative.
    """

    def __init__(
        self,
        weights: Float[Tensor, "batch negatives queries"],
        lengths: Sequence[int],
        valid: Bool[Tensor, "batch negative_tokens"] | None,
        dtype: torch.dtype,
    ) -> None:
        """Take the weights.

        Args:
            weights: of each negative on each image row, 0 or more.
            lengths: tokens of each negative.
            valid: which of these tokens are real; None when all are.
            dtype: of the queries.
        """
        self._lengths = list(lengths)
        weights = weights[:, : len(self._lengths)].to(torch.promote_types(dtype, torch.float32))
        # A negative without a real token is absent, however much it weighs.
        if valid is None:
            valid = torch.ones(len(weights), sum(self._lengths), dtype=torch.bool, device=weights.device)
        is_real = [of_negative.any(1, keepdim=True) for of_negative in valid.split(self._lengths, 1)]
        self._of_image = weights * torch.cat(is_real, 1)[..., None]
        self._of_text = self._of_image.amin(-1, keepdim=True)

    def present(self, rows: str) -> Bool[Tensor, "batch 1 queries 1"]:
        """Tell on which rows there is a negative."""
        return (self._on(rows) > 0).any(1)[:, None, :, None]

    def fade(self, rows: str) -> Float[Tensor, "batch 1 queries 1"]:
        """Return the factor by which an extrapolation fades with the weights: min(1, their sum)."""
        return self._on(rows).sum(1).clamp(max=1.0)[:, None, :, None]

    def weigh(self, partial: Partial, rows: str) -> Partial:
        """Return the attention of some rows over the negatives, with these weights."""
        weights = self._on(rows)
        logs = torch.where(weights > 0, weights.clamp(min=torch.finfo(weights.dtype).tiny).log(), _ABSENT)
        shifts = [of_negative[:, None] for of_negative in logs.unbind(1)]
        if partial.is_fused:
            return WeighedPartial(partial, self._lengths, shifts)
        # Without a log-sum-exp there is one call over all keys, for which every logit needs a bias of its own.
        of_keys = [shift[..., None].expand(-1, -1, -1, n) for shift, n in zip(shifts, self._lengths, strict=True)]
        bias = torch.cat(of_keys, 3)
        if partial.bias is not None:
            bias = bias + partial.bias
        bias = bias.clamp(min=lowest(partial.query.dtype)).to(partial.query.dtype)
        return Partial(partial.query, partial.key, partial.value, bias, partial.scale, partial.kernel, partial.host)

    def _on(self, rows: str) -> Float[Tensor, "batch negatives queries"]:
        return self._of_image if rows == "image" else self._of_text


class WeighedPartial(Partial):
    """Attention over several sets of keys, the logits of each of them shifted by another number for each query."""

    __slots__ = ("_lengths", "_shifts")

    def __init__(
        self,
        whole: Partial,
        lengths: list[int],
        shifts: Sequence[Shift],
        gain: Strength = 1.0,
        shift: Strength = 0.0,
    ) -> None:
        """Take the attention over all keys without the shifts, how many keys each set has, and the sets' shifts."""
        inputs = (whole.query, whole.key, whole.value, whole.bias, whole.scale, whole.kernel)
        super().__init__(*inputs, gain=gain, shift=shift)
        self._lengths = lengths
        self._shifts = shifts

    def scaled(self, gain: Strength) -> "WeighedPartial":
        """Multiply these keys' values; a negative gain flips their sign."""
        return WeighedPartial(self, self._lengths, self._shifts, self.gain * gain, self.shift)

    def shifted(self, delta: Strength) -> "WeighedPartial":
        """Add `delta` to all logits; -inf hides the keys."""
        return WeighedPartial(self, self._lengths, self._shifts, self.gain, self.shift + delta)

    def attend(self, value: Tensor | None = None) -> Float[Tensor, "batch heads queries channels"]:
        """Compute the output and the log-sum-exp, and keep both, as `Partial.attend` does."""
        parts = self._parts(self.value if value is None else value)
        out = merge(*parts)
        # merge has had them computed.
        self._log_sum_exp = torch.logsumexp(torch.stack([part.log_sum_exp for part in parts]), 0)
        if value is None:
            self.computed = out
        return out

    def logits(self) -> Float[Tensor, "batch heads queries keys"]:
        """Return the logits with the sets' own shifts, in float32 or wider."""
        shifted = []
        for part, shift in zip(self._parts(self.value), self._shifts, strict=True):
            shifted.append(part.logits() + shift[..., None])
        return torch.cat(shifted, -1)

    def _parts(self, value: Tensor) -> list[Partial]:
        """Return the attention over each set of keys."""
        keys = self.key.split(self._lengths, 2)
        values = value.split(self._lengths, 2)
        biases: Sequence[Tensor | None] = [self.bias] * len(keys)
        if self.bias is not None and self.bias.shape[-1] > 1:
            biases = self.bias.split(self._lengths, -1)
        parts = []
        for of_key, of_value, bias, shift in zip(keys, values, biases, self._shifts, strict=True):
            parts.append(Partial(self.query, of_key, of_value, bias, self.scale, self.kernel, shift=shift))
        return parts
