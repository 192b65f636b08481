"""One attention call of the host, cut along its spans."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vsf.attention import Source, finite, lowest
from vsf.errors import LayoutError
from vsf.spans import HOST, Part, TokenLayout


@dataclass(frozen=True, slots=True, eq=False)
class AttentionCall:
    """What the host handed to its attention, and which token is what.

    Raises LayoutError when shapes and layout do not fit together.
    """

    query: Float[Tensor, "batch heads queries channels"]
    key: Float[Tensor, "batch heads keys channels"]
    value: Float[Tensor, "batch heads keys channels"]
    layout: TokenLayout
    kind: Literal["joint", "cross"]
    negative_valid: Bool[Tensor, "batch negative_tokens"] | None
    bias: Tensor | None
    scale: float | None

    @property
    def has_negative(self) -> bool:
        """Whether there is any negative token."""
        return self.layout.count(["negative"]) > 0

    def rows(self, index: Sequence[int], layout: TokenLayout) -> "AttentionCall":
        """Keep some rows of the batch, which share this layout."""
        picked = list(index)
        valid, bias = self.negative_valid, self.bias
        return replace(
            self,
            query=self.query[picked],
            key=self.key[picked],
            value=self.value[picked],
            layout=layout,
            negative_valid=None if valid is None else valid[picked, : layout.count(["negative"])],
            bias=bias[picked] if bias is not None and bias.shape[0] > 1 else bias,
        )

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
        if self.negative_valid is None or not any(part not in HOST for part in keys):
            return bias
        visible = self.layout.take(self._visible(self.negative_valid), 3, keys)
        shown = torch.zeros_like(visible, dtype=dtype) if bias is None else bias
        return torch.where(visible, shown, lowest(dtype))

    def _visible(self, negative_valid: Tensor) -> Bool[Tensor, "batch 1 1 keys"]:
        """Spread the validity of the negative tokens over the whole sequence."""
        pieces, start = [], 0
        for span in self.layout.spans:
            if span.kind == "negative":
                pieces.append(negative_valid[:, start : start + span.length])
                start += span.length
            else:
                pieces.append(negative_valid.new_ones(negative_valid.shape[0], span.length))
        return torch.cat(pieces, 1)[:, None, None, :]


def check_shapes(call: AttentionCall, layouts: Sequence[TokenLayout]) -> None:
    """Raise LayoutError unless tensors, layouts, mask and validity fit together."""
    if call.kind not in ("joint", "cross"):
        raise LayoutError(f'kind is "joint" or "cross", got "{call.kind}"')
    query, key, value = (tuple(tensor.shape) for tensor in (call.query, call.key, call.value))
    if not len(query) == len(key) == len(value) == 4:
        raise LayoutError(f"query, key, value are (batch, heads, tokens, channels), got {query}, {key}, {value}")
    if query[:2] != key[:2] or key[:3] != value[:3] or query[3] != key[3]:
        raise LayoutError(
            "query, key and value share batch and heads, key and value their tokens, query and key their channels, "
            f"got {query}, {key}, {value}; repeat key and value heads where they are grouped"
        )
    for layout in layouts:
        if layout.tokens != key[2] or (call.kind == "joint" and query[2] != key[2]):
            raise LayoutError(
                f"a {call.kind} layout of {layout.tokens} tokens needs as many keys"
                f"{' and queries' if call.kind == 'joint' else ''}, got {key[2]} keys and {query[2]} queries"
            )
    _check_bias(call.bias, (query[0], query[1], query[2], key[2]))
    if call.negative_valid is not None:
        expected = (query[0], max(layout.count(["negative"]) for layout in layouts))
        if call.negative_valid.dtype != torch.bool or tuple(call.negative_valid.shape) != expected:
            came = f"{call.negative_valid.dtype} of {tuple(call.negative_valid.shape)}"
            raise LayoutError(f"negative_valid is boolean (batch, negative tokens) = {expected}, got {came}")


def _check_bias(bias: Tensor | None, full: tuple[int, int, int, int]) -> None:
    if bias is None:
        return
    if bias.dim() != 4 or any(size not in (1, want) for size, want in zip(bias.shape, full, strict=True)):
        raise LayoutError(
            f"a bias broadcasts to (batch, heads, queries, keys) = {full}, got {tuple(bias.shape)}; "
            "it covers the negative tokens too"
        )
