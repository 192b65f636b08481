"""One attention call of the host, cut along its spans."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from vsf.attention import Source, finite, lowest
from vsf.guidance.control import Control, pick_rows
from vsf.spans import HOST, Kind, Part, TokenLayout


@dataclass(frozen=True, slots=True, eq=False)
class HostCall:
    """What the host handed to its attention.

    kind: "joint", where text and image attend to one another, or "cross", where every query is an image row.
    bias: the host's own mask over the whole sequence, boolean (True = visible) or added to the logits; it must leave
        every row a key besides the negatives.
    scale: of the logits; None = 1/√channels.
    """

    query: Float[Tensor, "batch heads queries channels"]
    key: Float[Tensor, "batch heads keys channels"]
    value: Float[Tensor, "batch heads keys channels"]
    kind: Literal["joint", "cross"] = "joint"
    bias: Float[Tensor, "..."] | Bool[Tensor, "..."] | None = None
    scale: float | None = None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class AttentionCall(HostCall):
    """The host's call, and which token is what."""

    layout: TokenLayout
    negative_valid: Bool[Tensor, "batch negative_tokens"] | None
    control: Control
    index: tuple[int, ...]
    """Which rows of the host's batch these are."""
    emphasis: Float[Tensor, "batch positive_tokens"] | None = None
    """Weights of the positive tokens for image rows."""

    @property
    def has_negative(self) -> bool:
        """Whether there is any negative token."""
        return self.layout.count(["negative"]) > 0

    @property
    def acts(self) -> bool:
        """Whether a method is to act at all."""
        return self.has_negative and not self.control.is_off

    @property
    def may_lack_negative(self) -> bool:
        """Whether some rows may turn out to have no real negative token."""
        return self.control.unguided is None and self.negative_valid is not None

    @property
    def may_bypass(self) -> bool:
        """Whether some image rows may have to equal the unguided model's to the last bit."""
        strength = self.control.strength
        if isinstance(strength, Tensor) and (strength.dim() or self.control.unguided is None):
            return True
        return self.may_lack_negative

    def rows(self, index: Sequence[int], layout: TokenLayout) -> "AttentionCall":
        """Keep some rows of the batch, which share this layout, and of which all or none have emphasised words."""
        valid, bias, emphasis = self.negative_valid, self.bias, self.control.emphasis
        given = [] if emphasis is None else [emphasis[row] for row in index]
        emphasised = [weights for weights in given if weights is not None]
        return replace(
            self,
            query=pick_rows(self.query, index),
            key=pick_rows(self.key, index),
            value=pick_rows(self.value, index),
            layout=layout,
            negative_valid=None if valid is None else pick_rows(valid, index)[:, : layout.count(["negative"])],
            bias=pick_rows(bias, index) if bias is not None and bias.shape[0] > 1 else bias,
            control=self.control.rows(index),
            index=tuple(self.index[row] for row in index),
            emphasis=torch.stack(emphasised).to(self.query.device) if emphasised else None,
        )

    def without_absent(self) -> "AttentionCall":
        """Count the tokens of negatives that weigh 0 as not real."""
        weights, lengths = self.control.weights, self.layout.negative_lengths
        if weights is None or not self.has_negative:
            return self
        shown = torch.cat([(weights[:, i : i + 1] > 0).expand(-1, length) for i, length in enumerate(lengths)], 1)
        valid = self.negative_valid
        return replace(self, negative_valid=shown if valid is None else valid & shown)

    def log_weight(self, number: int) -> Float[Tensor, "batch 1 1"] | float:
        """Return ln w of a negative for each row; 0 for those that are absent, whose tokens are not real."""
        if self.control.weights is None:
            return 0.0
        weight = self.control.weights[:, number].to(torch.promote_types(self.query.dtype, torch.float32))
        return torch.where(weight > 0, weight, 1.0).log()[:, None, None]

    def host(self) -> Source:
        """Return the call that the unguided model makes: the same rows and keys in the same order, its own mask."""
        return Source(self._queries(HOST), *self._keys(HOST), self.host_bias(HOST), self.scale)

    def host_bias(self, rows: Collection[Part]) -> Tensor | None:
        """Return the host's mask for these rows on the keys the unguided model has, as it came."""
        return self._bias(rows, HOST)

    def source(self, rows: Collection[Part], keys: Collection[Part]) -> Source:
        """Let these rows see these keys; padded negative tokens are hidden, and no row turns into NaN."""
        return Source(self._queries(rows), *self._keys(keys), self._safe_bias(rows, keys), self.scale)

    def _queries(self, rows: Collection[Part]) -> Tensor:
        return self.layout.take(self.query, 2, rows) if self.kind == "joint" else self.query

    def _keys(self, keys: Collection[Part]) -> tuple[Tensor, Tensor]:
        return self.layout.take(self.key, 2, keys), self.layout.take(self.value, 2, keys)

    def _bias(self, rows: Collection[Part], keys: Collection[Part]) -> Tensor | None:
        bias = self.bias
        if bias is not None and self.kind == "joint" and bias.shape[2] > 1:
            bias = self.layout.take(bias, 2, rows)
        if bias is not None and bias.shape[3] > 1:
            bias = self.layout.take(bias, 3, keys)
        return bias

    def _safe_bias(self, rows: Collection[Part], keys: Collection[Part]) -> Tensor | None:
        bias, dtype = self._bias(rows, keys), self.query.dtype
        if bias is not None:
            bias = finite(bias, dtype)
        if self.emphasis is not None and "image" in rows and "positive" in keys:
            added = self.layout.take(self._spread("positive", self.emphasis), 3, keys).log()
            bias = finite(added if bias is None else bias + added, dtype)
        if self.negative_valid is None or not any(part not in HOST for part in keys):
            return bias
        visible = self.layout.take(self._spread("negative", self.negative_valid), 3, keys)
        shown = torch.zeros_like(visible, dtype=dtype) if bias is None else bias
        return torch.where(visible, shown, lowest(dtype))

    def _spread(self, kind: Kind, values: Tensor) -> Shaped[Tensor, "batch 1 1 keys"]:
        """Put one value for each token of a kind where these tokens stand in the sequence, and 1 (True) elsewhere."""
        pieces, start = [], 0
        for span in self.layout.spans:
            if span.kind == kind:
                pieces.append(values[:, start : start + span.length])
                start += span.length
            else:
                pieces.append(values.new_ones(values.shape[0], span.length))
        return torch.cat(pieces, 1)[:, None, None, :]
