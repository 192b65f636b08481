"""Batch rows that are alike: the plan that all layers share for them, and their attention in one layer."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from vsf.attention.call import HostCall
from vsf.attention.control import Control, batch_places
from vsf.attention.kernels import best_kernel, may_fuse
from vsf.attention.layout import COMMON, HOST, Part, TokenLayout
from vsf.attention.partial import Partial, finite, lowest
from vsf.attention.place_weights import PlaceWeights

Rows = Literal["host", "image", "text", "negative"]
"""A choice of queries.

host: all rows that the unguided model has. image: the image rows of them. text: the positive and shared rows of them.
negative: the rows of the negatives.
"""

Keys = Literal["host", "common", "positive", "negative", "all"]
"""A choice of keys.

host: all keys that the unguided model has. common: those of image, shared and kept tokens. positive: those of the
positive prompt. negative: those of the negatives. all: host and negative.
"""

ROWS: Mapping[Rows, tuple[Part, ...]] = {
    "host": ("image", "positive", "shared"),
    "image": ("image",),
    "text": ("positive", "shared"),
    "negative": ("negative",),
}
_KEYS: Mapping[Keys, tuple[Part, ...]] = {
    "host": HOST,
    "common": COMMON,
    "positive": ("positive",),
    "negative": ("negative",),
}


class RowsPlan:
    """Everything that all layers share for batch rows of one layout, all or none of them guided and emphasised.

    Masks and weights are made here, once and on the device, so that a layer only takes views and calls kernels.

    Attributes:
        batch: index of these rows in the batch.
        control: the settings of these rows.
        emphasis: weights of the positive tokens for image rows, (batch, positive tokens); None where all are 1.
        has_negative: whether the layout has negative tokens.
        acts: whether a method is to act at all.
        valid: which negative tokens are real, (batch, negative tokens); None where all are.
        place_weights: the negatives' weights where each image row has its own; None elsewhere.
        may_lack_negative: whether some rows may turn out to have no real negative token.
        may_bypass: whether some image rows may have to equal the unguided model's to the last bit.
        has_text: whether the layout has positive or shared tokens.
        row_places, key_places: index of a choice of queries, and of keys, in the sequence.
        host_places: index of a choice of queries among those that the unguided model has.
        order: the pieces of the sequence: whose rows, the first of them, how many.
        strength: share of the guided image rows in the blend with the unguided, (..., queries, 1).
        least_strength: the same for text rows, which have no place in the picture.
        kernel, biased_kernel: the fused kernel for calls without a bias, and with one.
        mask: the host's mask of the call in progress.
        biases: biases of the logits under that mask, by queries and keys, as far as they were needed.
    """

    def __init__(
        self, host: HostCall, layout: TokenLayout, control: Control, valid: Tensor | None, index: tuple[int, ...]
    ) -> None:
        """Plan for calls like this one.

        Args:
            host: the whole call.
            layout: of these rows.
            control: of the whole batch.
            valid: (batch, negative tokens) of the whole batch, which of them are real; None = all.
            index: these rows of the batch.
        """
        query = host.query
        self.index = index
        self.layout = layout
        self.kind = host.kind
        self.dtype = query.dtype
        self.device = query.device
        self.batch = batch_places(index, self.device)
        self.control = control.rows(index)
        self.emphasis = _emphasis_of(control, index, self.device)
        self.has_negative = layout.count(["negative"]) > 0
        self.acts = self.has_negative and not self.control.is_off
        self.valid = _real_tokens(layout, self.control, None if valid is None else valid[self.batch])
        self.place_weights = _place_weights(layout, self.control, self.valid, self.dtype)
        self.may_lack_negative = control.unguided is None and self.valid is not None
        if self.place_weights is not None:
            self.may_lack_negative = True
        self.may_bypass = self.may_lack_negative or _may_be_zero(self.control)
        self.has_text = layout.count(ROWS["text"]) > 0
        row_layout = layout.of_rows()
        self.row_places = {name: row_layout.places(parts, self.device) for name, parts in ROWS.items()}
        self.key_places = {name: layout.places(parts, self.device) for name, parts in _KEYS.items()}
        host_layout = row_layout.without_negatives()
        self.host_places = {name: host_layout.places(parts, self.device) for name, parts in ROWS.items()}
        self.order = _order(row_layout)
        self.strength, self.least_strength = _blend_shares(self.control.strength, self.dtype)
        self.kernel = best_kernel(self.device, self.dtype, query.shape[-1], biased=False)
        self.biased_kernel = best_kernel(self.device, self.dtype, query.shape[-1], biased=True)
        self.mask: Tensor | None = None
        self.biases: dict[tuple[Rows, Keys], Tensor | None] = {}
        self._fade: float | Tensor | None = None

    def present(self, rows: Rows) -> Bool[Tensor, "batch 1 _ 1"]:
        """Tell for each row of the batch, or each of these queries, whether it has a real negative token."""
        if self.place_weights is not None:
            return self.place_weights.present(rows)
        assert self.valid is not None
        return self.valid.any(1)[:, None, None, None]

    @property
    def fade(self) -> float | Float[Tensor, " batch"]:
        """The factor by which an extrapolation fades with the negatives' weights: min(1, their sum)."""
        if self._fade is None:
            self._fade = self._make_fade()
        return self._fade

    def use(self, mask: Tensor | None) -> None:
        """Take the host's mask of the calls that follow; mostly all layers share one."""
        self.mask = mask
        self.biases = {}

    def bias(self, rows: Rows, keys: Keys) -> Tensor | None:
        """Return the bias of the logits of these rows for these keys."""
        if (rows, keys) not in self.biases:
            self.biases[rows, keys] = self._make_bias(rows, keys)
        return self.biases[rows, keys]

    def whole_mask(self) -> Tensor | None:
        """Return the host's mask for these rows of the batch, as it came."""
        if self.mask is None or with_four_axes(self.mask).shape[0] == 1:
            return self.mask
        return self.mask[self.batch]

    def _make_fade(self) -> float | Tensor:
        weights = self.control.weights
        if weights is None:
            return 1.0
        total = weights.new_zeros(len(weights))
        for number, length in enumerate(self.layout.negative_lengths):
            is_present = length > 0 if self.valid is None else self._real(number).any(1)
            total = total + weights[:, number] * is_present
        return total.clamp(max=1.0).to(torch.promote_types(self.dtype, torch.float32))

    def _make_bias(self, rows: Rows, keys: Keys) -> Tensor | None:
        bias = self._part_of_mask(rows, keys)
        if keys == "host" and (rows == "host" or (rows == "image" and self.emphasis is None)):
            return bias  # unchanged: the unguided model's own call
        if bias is not None:
            # The host's mask may hide every key of a part of them, and a softmax over -inf alone is NaN.
            bias = finite(bias, self.dtype)
        if keys in ("host", "positive") and rows == "image" and self.emphasis is not None:
            bias = _sum(bias, self._log_emphasis(keys), self.dtype)
        if keys == "negative" and self.control.weights is not None and self.place_weights is None:
            bias = _sum(bias, self._log_weights(), self.dtype)
        if keys == "all":
            return self._where_visible(self._own_stream(), bias)
        if keys == "negative" and self.valid is not None:
            return self._where_visible(self.valid[:, None, None], bias)
        return bias

    def _part_of_mask(self, rows: Rows, keys: Keys) -> Tensor | None:
        """Pick these rows and keys out of the host's mask."""
        if self.mask is None:
            return None
        mask = with_four_axes(self.mask)
        if mask.shape[0] > 1:
            mask = mask[self.batch]
        if self.kind == "joint" and mask.shape[2] > 1:
            mask = mask[:, :, self.row_places[rows]]
        return mask if keys == "all" or mask.shape[3] == 1 else mask[..., self.key_places[keys]]

    def _where_visible(self, is_visible: Tensor, bias: Tensor | None) -> Tensor:
        shown = torch.zeros_like(is_visible, dtype=self.dtype) if bias is None else bias
        return torch.where(is_visible, shown, lowest(self.dtype))

    def _log_emphasis(self, keys: Keys) -> Float[Tensor, "batch 1 1 keys"]:
        """Return ln w for each positive token among the keys, 0 for the other keys."""
        assert self.emphasis is not None
        logs = self.emphasis.log()
        if keys == "positive":
            return logs[:, None, None]
        of_sequence = logs.new_zeros(len(logs), self.layout.tokens)
        of_sequence[:, self.key_places["positive"]] = logs
        return of_sequence[:, None, None, self.key_places["host"]]

    def _log_weights(self) -> Float[Tensor, "batch 1 1 negative_tokens"]:
        """Return ln w for each negative token; 0 for an absent negative, whose tokens `valid` hides."""
        assert self.control.weights is not None
        weights = self.control.weights.to(torch.promote_types(self.dtype, torch.float32))
        logs = torch.where(weights > 0, weights, 1.0).log()
        lengths = self.layout.negative_lengths
        of_tokens = [logs[:, number : number + 1].expand(-1, length) for number, length in enumerate(lengths)]
        return torch.cat(of_tokens, 1)[:, None, None]

    def _own_stream(self) -> Bool[Tensor, "batch 1 negative_tokens keys"]:
        """Tell which keys the rows of each negative see: image, shared, kept and their own."""
        # 0 for image, shared and kept tokens, -1 for the positive, from 1 on for the negatives.
        owner = torch.zeros(self.layout.tokens, dtype=torch.int32, device=self.device)
        start = 0
        number = 0
        for span in self.layout.spans:
            number += span.kind == "negative"
            if span.kind == "positive":
                owner[start : start + span.length] = -1
            elif span.kind == "negative":
                owner[start : start + span.length] = number
            start += span.length
        is_visible = (owner == 0) | (owner == owner[self.key_places["negative"]][:, None])
        if self.valid is None:
            return is_visible[None, None]
        real = self.valid.new_ones(len(self.valid), self.layout.tokens)
        real[:, self.key_places["negative"]] = self.valid
        return is_visible[None, None] & real[:, None, None]

    def _real(self, number: int) -> Bool[Tensor, "batch tokens"]:
        """Tell which tokens of one negative are real."""
        assert self.valid is not None
        start = sum(self.layout.negative_lengths[:number])
        return self.valid[:, start : start + self.layout.negative_lengths[number]]


class RowsCall:
    """The part of one attention call that concerns the rows of a plan."""

    __slots__ = ("_model", "biased_kernel", "host", "kernel", "key", "mask", "plan", "query", "scale", "value")

    def __init__(self, plan: RowsPlan, call: HostCall) -> None:
        """Take a call whose query, key and value hold these rows alone; its bias is that of the whole batch."""
        query = call.query
        key = call.key
        value = call.value
        if key.shape[1] != query.shape[1]:
            # Grouped-query attention: the fused kernels with log-sum-exp want as many key heads as query heads.
            group = query.shape[1] // key.shape[1]
            key = key.repeat_interleave(group, 1)
            value = value.repeat_interleave(group, 1)
        self.plan = plan
        self.query = query
        self.key = key
        self.value = value
        self.scale = call.scale
        self.host = call.attention
        # Compared by identity: layers share one mask, and comparing its values would wait for the device.
        if call.bias is not plan.mask:
            plan.use(call.bias)
        self.kernel = plan.kernel
        self.biased_kernel = plan.biased_kernel
        if not may_fuse(query, key, value):
            self.kernel = None
            self.biased_kernel = None
        self._model: Partial | None = None

    @property
    def model(self) -> Partial:
        """The call that the unguided model makes: the same rows and keys in the same order, with its own mask."""
        if self._model is None:
            self._model = self.over("host", "host")
        return self._model

    def cut(self, rows: Rows) -> Partial:
        """Cut some rows out of the unguided model's own call."""
        plan = self.plan
        model = self._model
        if model is None:
            model = self._model = self.over("host", "host")
        row_index = plan.host_places[rows]
        bias = None if plan.mask is None else plan.bias(rows, "host")
        inputs = (model.query[:, :, row_index], model.key, model.value, bias, model.scale, model.kernel, model.host)
        return Partial(*inputs, wider=model, places=row_index)

    @property
    def model_is_computed(self) -> bool:
        """True once the unguided model's own call has been computed."""
        return self._model is not None and self._model.computed is not None

    def text(self) -> Float[Tensor, "batch heads queries channels"]:
        """Return unguided text rows: cut out of the unguided model's own call if that is computed, else their own."""
        model = self._model
        if model is not None and model.computed is not None:
            return model.computed[:, :, self.plan.host_places["text"]]
        return self.over("text", "host").attend()

    def untouched(self) -> Float[Tensor, "batch heads queries channels"]:
        """Return the output of the host's own attention for the whole sequence."""
        attend = F.scaled_dot_product_attention if self.host is None else self.host.plain
        return attend(self.query, self.key, self.value, self.plan.whole_mask(), scale=self.scale)

    def over(self, rows: Rows, keys: Keys) -> Partial:
        """Return the attention of these rows over these keys; padded negative tokens are hidden, no row becomes NaN."""
        plan = self.plan
        query = self.query
        key = self.key
        value = self.value
        if plan.kind == "joint":
            query = query[:, :, plan.row_places[rows]]
        if keys != "all":
            key_index = plan.key_places[keys]
            key = key[:, :, key_index]
            value = value[:, :, key_index]
        bias = plan.biases[rows, keys] if (rows, keys) in plan.biases else plan.bias(rows, keys)
        kernel = self.kernel if bias is None else self.biased_kernel
        # The host's own attention is used for the keys that the unguided model has; everything else is torch's.
        host = None if keys == "negative" or keys == "all" else self.host
        if kernel is not None and host is not None and (bias is None or host.takes_bias):
            kernel = host.fused
        if bias is not None and bias.requires_grad and torch.is_grad_enabled():
            kernel = None
        partial = Partial(query, key, value, bias, self.scale, kernel, host)
        if keys == "negative" and plan.place_weights is not None:
            return plan.place_weights.weigh(partial, rows)
        return partial


def with_four_axes(bias: Tensor) -> Tensor:
    """Add the leading axes that a mask leaves out."""
    return bias if bias.dim() > 3 else bias.reshape(*(1,) * (4 - bias.dim()), *bias.shape)


def _order(layout: TokenLayout) -> list[tuple[Rows, int, int]]:
    """List the pieces of the sequence as (stream, first row in it, rows); neighbours of one stream are one piece."""
    pieces: list[tuple[Rows, int, int]] = []
    rows_so_far: dict[Rows, int] = {"image": 0, "text": 0, "negative": 0}
    for span in layout.spans:
        if not span.length:
            continue
        rows: Rows = "image"
        if span.kind == "negative":
            rows = "negative"
        elif span.kind in ROWS["text"]:
            rows = "text"
        if pieces and pieces[-1][0] == rows:
            _, start, length = pieces.pop()
            pieces.append((rows, start, length + span.length))
        else:
            pieces.append((rows, rows_so_far[rows], span.length))
        rows_so_far[rows] += span.length
    return pieces


def _emphasis_of(
    control: Control, index: Sequence[int], device: torch.device
) -> Float[Tensor, "batch positive_tokens"] | None:
    """Stack the emphasis of some batch rows, which all or none of them have."""
    if control.emphasis is None:
        return None
    of_rows = [control.emphasis[row] for row in index]
    weights = [of_row.to(device) for of_row in of_rows if of_row is not None]
    return torch.stack(weights) if weights else None


def _real_tokens(layout: TokenLayout, control: Control, valid: Tensor | None) -> Bool[Tensor, "batch tokens"] | None:
    """Return which negative tokens are real; those of a negative of weight 0 are not. None where all are."""
    lengths = layout.negative_lengths
    weights = control.weights
    real = None if valid is None else valid[:, : sum(lengths)]
    if weights is None or weights.dim() == 3 or not sum(lengths):
        return real
    is_present = weights > 0
    columns = [is_present[:, number : number + 1].expand(-1, length) for number, length in enumerate(lengths)]
    present = torch.cat(columns, 1)
    return present if real is None else real & present


def _place_weights(
    layout: TokenLayout, control: Control, valid: Tensor | None, dtype: torch.dtype
) -> PlaceWeights | None:
    """Return the weights where every image row has its own, None elsewhere."""
    weights = control.weights
    if weights is None or weights.dim() < 3 or not layout.negative_lengths:
        return None
    return PlaceWeights(weights, layout.negative_lengths, valid, dtype)


def _may_be_zero(control: Control) -> bool:
    """Tell whether a strength that only the device knows may be 0 for some rows."""
    strength = control.strength
    return isinstance(strength, Tensor) and (strength.dim() > 0 or control.unguided is None)


def _blend_shares(strength: float | Tensor, dtype: torch.dtype) -> tuple[float | Tensor, float | Tensor]:
    """Shape a strength to blend (batch, heads, queries, channels): that of image rows, and the least for other rows."""
    if not isinstance(strength, Tensor):
        return strength, strength
    share = strength.to(dtype)
    if not share.dim():
        return share, share
    return share[..., None, :, None], share.amin(-1, keepdim=True)[..., None, :, None]


def _sum(bias: Tensor | None, added: Tensor, dtype: torch.dtype) -> Tensor:
    return finite(added if bias is None else bias + added, dtype)
