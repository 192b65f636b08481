"""Attention with a negative prompt in it: the one function that families call."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from vsf.errors import LayoutError
from vsf.guidance.base import Guidance
from vsf.guidance.call import AttentionCall
from vsf.guidance.checks import check_shapes
from vsf.guidance.control import Control
from vsf.guidance.observe import observe
from vsf.guidance.partials import Partials
from vsf.spans import TokenLayout


def guided_attention(
    method: Guidance,
    query: Float[Tensor, "batch heads queries channels"],
    key: Float[Tensor, "batch heads keys channels"],
    value: Float[Tensor, "batch heads keys channels"],
    layout: TokenLayout | Sequence[TokenLayout],
    *,
    kind: Literal["joint", "cross"] = "joint",
    negative_valid: Bool[Tensor, "batch negative_tokens"] | None = None,
    bias: Float[Tensor, "..."] | Bool[Tensor, "..."] | None = None,
    scale: float | None = None,
    control: Control | None = None,
) -> Float[Tensor, "batch heads queries channels"]:
    """Replace one attention call of the host.

    Image rows get what the method makes of them. Positive and shared rows see everything but the negatives. Rows of a
    negative prompt see image, shared and itself: the stream N⁰ of Guo & Du, arXiv:2508.10931. A batch row without a
    real negative token equals the unguided call to the last bit.

    layout: the spans of the keys (joint: and of the queries; cross: every query is an image row), one for all or one
        per batch row.
    negative_valid: which negative tokens, all negatives side by side, are real; None = all. Where layouts differ, a
        row's flags come first and the rest is ignored. Rows of padded negative tokens are finite and mean nothing.
    bias: the host's own mask over the whole sequence, boolean (True = visible) or added to the logits; it must leave
        every row a key besides the negatives.
    scale: of the logits; None = 1/√channels.
    control: weights of the negatives, strength of the method, an observer.

    Raises LayoutError when shapes and layout do not fit together.
    """
    layouts = _one_per_row(layout, query.shape[0])
    if bias is not None and bias.dim() < 4:
        bias = bias.reshape(*(1,) * (4 - bias.dim()), *bias.shape)
    rows = tuple(range(query.shape[0]))
    control = Control() if control is None else control
    call = AttentionCall(query, key, value, layouts[0], kind, negative_valid, bias, scale, control, rows)
    check_shapes(call, layouts)
    distinct = list(dict.fromkeys(layouts))
    if len(distinct) == 1:
        return _attend(method, call)
    groups = [[row for row, own in enumerate(layouts) if own == one] for one in distinct]
    outs = [_attend(method, call.rows(group, one)) for group, one in zip(groups, distinct, strict=True)]
    order = [row for group in groups for row in group]
    return torch.cat(outs)[[order.index(row) for row in range(len(layouts))]]


def _one_per_row(layout: TokenLayout | Sequence[TokenLayout], batch: int) -> list[TokenLayout]:
    layouts = [layout] * batch if isinstance(layout, TokenLayout) else list(layout)
    if len(layouts) != batch or not layouts:
        raise LayoutError(f"needs one layout for all, or one per batch row ({batch}), got {len(layouts)}")
    return layouts


def _attend(method: Guidance, call: AttentionCall) -> Tensor:
    """Guide a batch whose rows share one layout."""
    if not call.has_negative:
        return F.scaled_dot_product_attention(call.query, call.key, call.value, call.bias, scale=call.scale)
    call = call.without_absent()
    partials = Partials(call)
    image = partials.base.out if call.control.is_off else _combined(method, call, partials)
    if call.control.watch is not None and not call.control.is_off:
        seen = observe(partials, image, call.index)
        if seen is not None:
            call.control.watch(seen)
    return image if call.kind == "cross" else _in_order(call, image, partials)


def _combined(method: Guidance, call: AttentionCall, partials: Partials) -> Tensor:
    """Let the method act on the image rows, as strongly as asked, where there is a negative."""
    image = method.combine(partials)
    if call.control.blends:
        image = _blended(partials.base.out, image, call.control.strength)
    if call.negative_valid is not None:
        present = call.negative_valid.any(1)[:, None, None, None]
        image = torch.where(present, image, partials.base.out)
    return image


def _blended(unguided: Tensor, guided: Tensor, strength: float | Tensor) -> Tensor:
    """Z⁺ + m·(combined − Z⁺); torch.lerp gives either end to the last bit."""
    if not isinstance(strength, Tensor):
        return torch.lerp(unguided, guided, strength)
    share = strength.to(unguided.dtype)
    share = share[..., None, :, None] if share.dim() else share
    return torch.lerp(unguided, guided, share)


def _in_order(call: AttentionCall, image: Tensor, partials: Partials) -> Tensor:
    """Put image, text and negative rows back where their tokens stand."""
    text_layout = TokenLayout(tuple(span for span in call.layout.spans if span.kind in ("positive", "shared")))
    negatives = range(len(call.layout.negative_lengths))
    streams = {
        "image": image,
        "text": partials.text() if text_layout.tokens else image[:, :, :0],
        "negative": torch.cat([call.source([i], ["image", "shared", i]).out for i in negatives], 2),
    }
    start = dict.fromkeys(streams, 0)
    pieces = []
    for span in call.layout.spans:
        stream = "text" if span.kind in ("positive", "shared") else span.kind
        pieces.append(streams[stream].narrow(2, start[stream], span.length))
        start[stream] += span.length
    return torch.cat(pieces, 2)
