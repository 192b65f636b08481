"""Attention with a negative prompt in it: the one function that families call."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from vsf.errors import LayoutError
from vsf.guidance.base import Guidance, guided_rows
from vsf.guidance.call import AttentionCall, HostCall
from vsf.guidance.checks import check_shapes
from vsf.guidance.control import Control
from vsf.guidance.observe import observe
from vsf.guidance.partials import NegativePartials, Partials, TextPartials
from vsf.spans import TokenLayout


def guided_attention(
    method: Guidance,
    host: HostCall,
    layout: TokenLayout | Sequence[TokenLayout],
    *,
    negative_valid: Bool[Tensor, "batch negative_tokens"] | None = None,
    control: Control | None = None,
) -> Float[Tensor, "batch heads queries channels"]:
    """Replace one attention call of the host.

    Image rows get what the method makes of them. Positive and shared rows see everything but the negatives, rows of a
    negative prompt image, shared and itself (the stream N⁰ of Guo & Du, arXiv:2508.10931), unless the method guides
    them too. A batch row without a real negative token equals the unguided call to the last bit.

    layout: the spans of the keys (joint: and of the queries), one for all or one per batch row.
    negative_valid: which negative tokens, all negatives side by side, are real; None = all. Where layouts differ, a
        row's flags come first and the rest is ignored. Rows of padded negative tokens are finite and mean nothing.
    control: weights of negative and positive tokens, strength of the method, what is known of the rows, an observer.

    Raises LayoutError when shapes and layout do not fit together.
    """
    layouts = _one_per_row(layout, host.query.shape[0])
    bias = host.bias
    if bias is not None and bias.dim() < 4:
        bias = bias.reshape(*(1,) * (4 - bias.dim()), *bias.shape)
    rows = tuple(range(len(layouts)))
    control = Control() if control is None else control
    call = AttentionCall(
        host.query,
        host.key,
        host.value,
        host.kind,
        bias,
        host.scale,
        layout=layouts[0],
        negative_valid=negative_valid,
        control=control,
        index=rows,
    )
    check_shapes(call, layouts)
    groups = _alike(layouts, control)
    if len(groups) == 1:
        return _attend(method, call.rows(rows, layouts[0]))
    outs = [_attend(method, call.rows(group, layouts[group[0]])) for group in groups]
    order = [row for group in groups for row in group]
    joined = torch.cat(outs)
    return joined if order == [*rows] else joined[[order.index(row) for row in rows]]


def _one_per_row(layout: TokenLayout | Sequence[TokenLayout], batch: int) -> list[TokenLayout]:
    layouts = [layout] * batch if isinstance(layout, TokenLayout) else list(layout)
    if len(layouts) != batch or not layouts:
        raise LayoutError(f"needs one layout for all, or one per batch row ({batch}), got {len(layouts)}")
    return layouts


def _alike(layouts: Sequence[TokenLayout], control: Control) -> list[list[int]]:
    """Group the batch rows that share a layout, and whether there is something to guide and to emphasise."""
    off, emphasis = () if control.is_off else control.unguided or (), control.emphasis
    kinds = [(own, row in off, emphasis is None or emphasis[row] is None) for row, own in enumerate(layouts)]
    distinct = [kind for at, kind in enumerate(kinds) if kind not in kinds[:at]]
    return [[row for row, own in enumerate(kinds) if own == one] for one in distinct]


def _attend(method: Guidance, call: AttentionCall) -> Tensor:
    """Guide a batch of rows that are alike."""
    if not call.has_negative and call.emphasis is None:
        return F.scaled_dot_product_attention(call.query, call.key, call.value, call.bias, scale=call.scale)
    call = call.without_absent()
    partials = Partials(call)
    image = _guided(method, partials)
    if call.control.watch is not None and call.acts:
        seen = observe(partials, image, call.index)
        if seen is not None:
            call.control.watch(seen)
    return image if call.kind == "cross" else _in_order(method, partials, image)


def _guided(method: Guidance, partials: Partials) -> Tensor:
    """Let the method act on rows that it guides, as strongly as asked, where there is a negative."""
    call = partials.call
    if not call.acts or not set(partials.rows) <= set(guided_rows(method)):
        return partials.unguided
    guided = method.combine(partials)
    if call.control.blends:
        guided = _blended(partials.unguided, guided, partials.strength)
    if call.may_lack_negative:
        assert call.negative_valid is not None
        present = call.negative_valid.any(1)[:, None, None, None]
        guided = torch.where(present, guided, partials.unguided)
    return guided


def _blended(unguided: Tensor, guided: Tensor, strength: float | Tensor) -> Tensor:
    """Z⁺ + m·(combined − Z⁺); torch.lerp gives either end to the last bit."""
    if not isinstance(strength, Tensor):
        return torch.lerp(unguided, guided, strength)
    share = strength.to(unguided.dtype)
    share = share[..., None, :, None] if share.dim() else share
    return torch.lerp(unguided, guided, share)


def _in_order(method: Guidance, partials: Partials, image: Tensor) -> Tensor:
    """Put image, text and negative rows back where their tokens stand."""
    layout = partials.call.layout
    others = [partials.of(rows) for rows in (TextPartials, NegativePartials) if layout.count(rows.rows)]
    streams = [(partials.rows, image), *((other.rows, _guided(method, other)) for other in others)]
    start = [0 for _ in streams]
    pieces = []
    for span in layout.spans:
        for at, (rows, out) in enumerate(streams):
            if span.kind in rows:
                pieces.append(out.narrow(2, start[at], span.length))
                start[at] += span.length
    return torch.cat(pieces, 2)
