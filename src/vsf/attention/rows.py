"""Batch rows that are alike: what is the same for them in every layer, and what they attend to in one of them."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from vsf.attention.call import HostCall
from vsf.attention.control import Control, batch_places
from vsf.attention.kernels import best_kernel, may_fuse
from vsf.attention.layout import HOST, Part, TokenLayout
from vsf.attention.partial import Partial, finite, lowest

Rows = Literal["host", "image", "text", "negative"]
"""Queries: all that the unguided model has, its image rows, its text rows (and shared ones), or the negatives' rows."""
Keys = Literal["host", "common", "positive", "negative", "all"]
"""Keys: all that the unguided model has, those of image and shared tokens, the positive's, the negatives', or all."""

ROWS: Mapping[Rows, tuple[Part, ...]] = {
    "host": HOST,
    "image": ("image",),
    "text": ("positive", "shared"),
    "negative": ("negative",),
}
_KEYS: Mapping[Keys, tuple[Part, ...]] = {
    "host": HOST,
    "common": ("image", "shared"),
    "positive": ("positive",),
    "negative": ("negative",),
}


class RowsPlan:
    """What does not change from layer to layer for rows of one layout, all or none of them guided and emphasised.

    Masks and weights are made here, once and on the device, so that a layer only takes views and calls kernels.
    """

    def __init__(
        self, host: HostCall, layout: TokenLayout, control: Control, valid: Tensor | None, index: tuple[int, ...]
    ) -> None:
        """Plan for the rows `index` of calls like this one."""
        query = host.query
        self.index, self.layout, self.kind = index, layout, host.kind
        self.dtype, self.device = query.dtype, query.device
        self.batch = batch_places(index, self.device)
        """Where these rows stand in the batch."""
        self.control = control.rows(index)
        self.emphasis = _emphasis_of(control, index, self.device)
        """Weights of the positive tokens for image rows, (batch, positive tokens), None where all are 1."""
        self.has_negative = layout.count(["negative"]) > 0
        self.acts = self.has_negative and not self.control.is_off
        """Whether a method is to act at all."""
        self.valid = _real_tokens(layout, self.control, None if valid is None else valid[self.batch])
        """(batch, negative tokens), which of them are real; None when all are."""
        self.may_lack_negative = control.unguided is None and self.valid is not None
        """Whether some rows may turn out to have no real negative token."""
        self.may_bypass = self.may_lack_negative or _may_be_zero(self.control)
        """Whether some image rows may have to equal the unguided model's to the last bit."""
        self.has_text = layout.count(ROWS["text"]) > 0
        self.row_places = {name: layout.places(parts, self.device) for name, parts in ROWS.items()}
        self.key_places = {name: layout.places(parts, self.device) for name, parts in _KEYS.items()}
        own = layout.without_negatives()
        self.host_places = {name: own.places(parts, self.device) for name, parts in ROWS.items()}
        """Where rows stand among those that the unguided model has."""
        self.order = _order(layout)
        """The pieces that the sequence is made of: whose rows, the first of them, how many."""
        self.strength, self.least_strength = _shares(self.control.strength, self.dtype)
        """What blends guided and unguided image rows, (… queries 1), and rows without a place in the picture."""
        self.kernel = best_kernel(self.device, self.dtype, query.shape[-1], biased=False)
        self.biased_kernel = best_kernel(self.device, self.dtype, query.shape[-1], biased=True)
        self._fade: float | Tensor | None = None
        self.mask: Tensor | None = None
        """The host's mask of the call in progress."""
        self.biases: dict[tuple[Rows, Keys], Tensor | None] = {}
        """What is added to logits where that mask holds, as far as it was needed."""

    @property
    def present(self) -> Bool[Tensor, "batch 1 1 1"]:
        """Whether each row has a real negative token."""
        assert self.valid is not None
        return self.valid.any(1)[:, None, None, None]

    @property
    def fade(self) -> float | Float[Tensor, " batch"]:
        """What an extrapolation is multiplied with so that it fades with the negatives' weights: min(1, their sum)."""
        if self._fade is None:
            self._fade = self._make_fade()
        return self._fade

    def use(self, mask: Tensor | None) -> None:
        """Take the host's mask of the calls that follow; layers mostly share one."""
        self.mask = mask
        self.biases = {}

    def bias(self, rows: Rows, keys: Keys) -> Tensor | None:
        """Return what is added to the logits of these rows on these keys."""
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
            there = length > 0 if self.valid is None else self._real(number).any(1)
            total = total + weights[:, number] * there
        wide = torch.promote_types(self.dtype, torch.float32)
        return total.clamp(max=1.0).to(wide)

    def _make_bias(self, rows: Rows, keys: Keys) -> Tensor | None:
        bias = self._part_of_mask(rows, keys)
        if keys == "host" and (rows == "host" or (rows == "image" and self.emphasis is None)):
            return bias  # as it came: the unguided model's own call
        if bias is not None:
            bias = finite(bias, self.dtype)
        if keys in ("host", "positive") and rows == "image" and self.emphasis is not None:
            bias = _sum(bias, self._emphasised(keys), self.dtype)
        if keys == "negative" and self.control.weights is not None:
            bias = _sum(bias, self._log_weights(), self.dtype)
        if keys == "all":
            return self._where_seen(self._own_stream(), bias)
        if keys == "negative" and self.valid is not None:
            return self._where_seen(self.valid[:, None, None], bias)
        return bias

    def _part_of_mask(self, rows: Rows, keys: Keys) -> Tensor | None:
        """The host's mask, rows and keys picked out."""
        if self.mask is None:
            return None
        mask = with_four_axes(self.mask)
        if mask.shape[0] > 1:
            mask = mask[self.batch]
        if self.kind == "joint" and mask.shape[2] > 1:
            mask = mask[:, :, self.row_places[rows]]
        return mask if keys == "all" or mask.shape[3] == 1 else mask[..., self.key_places[keys]]

    def _where_seen(self, seen: Tensor, bias: Tensor | None) -> Tensor:
        shown = torch.zeros_like(seen, dtype=self.dtype) if bias is None else bias
        return torch.where(seen, shown, lowest(self.dtype))

    def _emphasised(self, keys: Keys) -> Float[Tensor, "batch 1 1 keys"]:
        assert self.emphasis is not None
        logs = self.emphasis.log()
        if keys == "positive":
            return logs[:, None, None]
        whole = logs.new_zeros(len(logs), self.layout.tokens)
        whole[:, self.key_places["positive"]] = logs
        return whole[:, None, None, self.key_places["host"]]

    def _log_weights(self) -> Float[Tensor, "batch 1 1 negative_tokens"]:
        """Return ln w for each negative token; 0 for those that are absent, whose tokens are not real."""
        assert self.control.weights is not None
        weights = self.control.weights.to(torch.promote_types(self.dtype, torch.float32))
        logs = torch.where(weights > 0, weights, 1.0).log()
        lengths = self.layout.negative_lengths
        spread = [logs[:, number : number + 1].expand(-1, length) for number, length in enumerate(lengths)]
        return torch.cat(spread, 1)[:, None, None]

    def _own_stream(self) -> Bool[Tensor, "batch 1 negative_tokens keys"]:
        """Tell which keys the rows of each negative see: image, shared and their own."""
        owner = torch.zeros(self.layout.tokens, dtype=torch.int32, device=self.device)
        start, number = 0, 0
        for span in self.layout.spans:
            number += span.kind == "negative"
            if span.kind == "positive":
                owner[start : start + span.length] = -1
            elif span.kind == "negative":
                owner[start : start + span.length] = number
            start += span.length
        seen = (owner == 0) | (owner == owner[self.key_places["negative"]][:, None])
        if self.valid is None:
            return seen[None, None]
        real = self.valid.new_ones(len(self.valid), self.layout.tokens)
        real[:, self.key_places["negative"]] = self.valid
        return seen[None, None] & real[:, None, None]

    def _real(self, number: int) -> Bool[Tensor, "batch tokens"]:
        assert self.valid is not None
        start = sum(self.layout.negative_lengths[:number])
        return self.valid[:, start : start + self.layout.negative_lengths[number]]


class RowsCall:
    """The part of one attention call that concerns the rows of a plan."""

    __slots__ = ("_model", "biased_kernel", "host", "kernel", "key", "mask", "plan", "query", "scale", "value")

    def __init__(self, plan: RowsPlan, call: HostCall) -> None:
        """Take a call whose tensors hold these rows alone, but for its bias, which holds all."""
        query, key, value = call.query, call.key, call.value
        if key.shape[1] != query.shape[1]:
            group = query.shape[1] // key.shape[1]
            key, value = key.repeat_interleave(group, 1), value.repeat_interleave(group, 1)
        self.plan, self.query, self.key, self.value = plan, query, key, value
        self.scale, self.host = call.scale, call.attention
        if call.bias is not plan.mask:
            plan.use(call.bias)
        self.kernel, self.biased_kernel = plan.kernel, plan.biased_kernel
        if not may_fuse(query, key, value):
            self.kernel = self.biased_kernel = None
        self._model: Partial | None = None

    @property
    def model(self) -> Partial:
        """The call that the unguided model makes: the same rows and keys in the same order, its own mask."""
        if self._model is None:
            self._model = self.over("host", "host")
        return self._model

    def cut(self, rows: Rows) -> Partial:
        """Some rows of the unguided model's own call."""
        plan, model = self.plan, self._model
        if model is None:
            model = self._model = self.over("host", "host")
        places, bias = plan.host_places[rows], None if plan.mask is None else plan.bias(rows, "host")
        inputs = (model.query[:, :, places], model.key, model.value, bias, model.scale, model.kernel, model.host)
        return Partial(*inputs, wider=model, places=places)

    @property
    def model_is_computed(self) -> bool:
        """Whether the unguided model's own call is made already."""
        return self._model is not None and self._model.computed is not None

    def text(self) -> Float[Tensor, "batch heads queries channels"]:
        """Text rows left alone: cut out of the unguided model's own call where that is made, else by a thin one."""
        model = self._model
        if model is not None and model.computed is not None:
            return model.computed[:, :, self.plan.host_places["text"]]
        return self.over("text", "host").attend()

    def untouched(self) -> Float[Tensor, "batch heads queries channels"]:
        """Return what the host's own attention returns for the whole sequence."""
        attend = F.scaled_dot_product_attention if self.host is None else self.host.plain
        return attend(self.query, self.key, self.value, self.plan.whole_mask(), scale=self.scale)

    def over(self, rows: Rows, keys: Keys) -> Partial:
        """Let these rows see these keys; padded negative tokens are hidden, and no row turns into NaN."""
        plan, query, key, value = self.plan, self.query, self.key, self.value
        if plan.kind == "joint":
            query = query[:, :, plan.row_places[rows]]
        if keys != "all":
            places = plan.key_places[keys]
            key, value = key[:, :, places], value[:, :, places]
        bias = plan.biases[rows, keys] if (rows, keys) in plan.biases else plan.bias(rows, keys)
        kernel = self.kernel if bias is None else self.biased_kernel
        host = None if keys == "negative" or keys == "all" else self.host
        if kernel is not None and host is not None and (bias is None or host.takes_bias):
            kernel = host.fused
        if bias is not None and bias.requires_grad and torch.is_grad_enabled():
            kernel = None
        return Partial(query, key, value, bias, self.scale, kernel, host)


def with_four_axes(bias: Tensor) -> Tensor:
    """Add the leading axes that a mask leaves out."""
    return bias if bias.dim() > 3 else bias.reshape(*(1,) * (4 - bias.dim()), *bias.shape)


def _order(layout: TokenLayout) -> list[tuple[Rows, int, int]]:
    """Say which rows of which stream stand where in the sequence; neighbours of one stream are one piece."""
    pieces: list[tuple[Rows, int, int]] = []
    taken: dict[Rows, int] = {"image": 0, "text": 0, "negative": 0}
    for span in layout.spans:
        rows: Rows = "text" if span.kind in ROWS["text"] else "negative" if span.kind == "negative" else "image"
        if not span.length:
            continue
        if pieces and pieces[-1][0] == rows:
            _, start, length = pieces.pop()
            pieces.append((rows, start, length + span.length))
        else:
            pieces.append((rows, taken[rows], span.length))
        taken[rows] += span.length
    return pieces


def _emphasis_of(
    control: Control, index: Sequence[int], device: torch.device
) -> Float[Tensor, "batch positive_tokens"] | None:
    """Stack the emphasis of some rows, of which all have one or none."""
    given = [] if control.emphasis is None else [control.emphasis[row] for row in index]
    emphasised = [weights.to(device) for weights in given if weights is not None]
    return torch.stack(emphasised) if emphasised else None


def _real_tokens(layout: TokenLayout, control: Control, valid: Tensor | None) -> Bool[Tensor, "batch tokens"] | None:
    """Count the tokens of negatives that weigh 0 as not real."""
    lengths, weights = layout.negative_lengths, control.weights
    real = None if valid is None else valid[:, : sum(lengths)]
    if weights is None or not sum(lengths):
        return real
    shown = torch.cat([(weights[:, i : i + 1] > 0).expand(-1, length) for i, length in enumerate(lengths)], 1)
    return shown if real is None else real & shown


def _may_be_zero(control: Control) -> bool:
    """Whether a strength that only the device knows may be 0 for some rows."""
    strength = control.strength
    return isinstance(strength, Tensor) and (strength.dim() > 0 or control.unguided is None)


def _shares(strength: float | Tensor, dtype: torch.dtype) -> tuple[float | Tensor, float | Tensor]:
    """Shape a strength to blend (batch, heads, queries, channels): one for image rows, the least for other rows."""
    if not isinstance(strength, Tensor):
        return strength, strength
    share = strength.to(dtype)
    if not share.dim():
        return share, share
    return share[..., None, :, None], share.amin(-1, keepdim=True)[..., None, :, None]


def _sum(bias: Tensor | None, added: Tensor, dtype: torch.dtype) -> Tensor:
    return finite(added if bias is None else bias + added, dtype)
