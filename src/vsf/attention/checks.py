"""Checks that the tensors of an attention call, its layouts and its controls fit together."""

from collections.abc import Sequence

import torch
from torch import Tensor

from vsf.attention.call import HostCall
from vsf.attention.control import Control
from vsf.attention.layout import TokenLayout
from vsf.attention.rows import with_four_axes
from vsf.errors import LayoutError


def check_shapes(
    call: HostCall, layouts: Sequence[TokenLayout], negative_valid: Tensor | None, control: Control
) -> None:
    """Raise LayoutError unless tensors, layouts, mask, validity and controls fit together."""
    if call.kind not in ("joint", "cross"):
        raise LayoutError(f'kind is "joint" or "cross", got "{call.kind}"')
    query = tuple(call.query.shape)
    key = tuple(call.key.shape)
    value = tuple(call.value.shape)
    if not len(query) == len(key) == len(value) == 4:
        raise LayoutError(f"query, key, value are (batch, heads, tokens, channels), got {query}, {key}, {value}")
    # max: keys without heads are refused here, not by a division by 0.
    if query[0] != key[0] or query[1] % max(1, key[1]) or key[:3] != value[:3] or query[3] != key[3]:
        raise LayoutError(
            "query, key and value share their batch, key and value heads and tokens, query and key channels, and there "
            f"are as many query heads as key heads or a multiple, got {query}, {key}, {value}"
        )
    needed = "keys, and queries but for the kept ones" if call.kind == "joint" else "keys"
    for layout in layouts:
        if layout.tokens != key[2] or (call.kind == "joint" and query[2] != layout.of_rows().tokens):
            raise LayoutError(
                f"a {call.kind} layout of {layout.tokens} tokens needs as many {needed}, "
                f"got {key[2]} keys and {query[2]} queries"
            )
    _check_bias(call.bias, (query[0], query[1], query[2], key[2]))
    if negative_valid is not None:
        expected = (query[0], max(layout.count(["negative"]) for layout in layouts))
        if negative_valid.dtype != torch.bool or tuple(negative_valid.shape) != expected:
            actual = f"{negative_valid.dtype} of {tuple(negative_valid.shape)}"
            raise LayoutError(f"negative_valid is boolean (batch, negative tokens) = {expected}, got {actual}")
    _check_control(call, layouts, control)


def _check_control(call: HostCall, layouts: Sequence[TokenLayout], control: Control) -> None:
    strength = control.strength
    batch = call.query.shape[0]
    _check_rows(control, layouts)
    _check_weights(call, layouts, control.weights)
    if not isinstance(strength, Tensor):
        return
    for layout in layouts:
        rows = _image_rows(call, layout)
        if not _is_strength_of(strength, batch, rows):
            raise LayoutError(
                f"strength is a number, (image rows) = ({rows},), or one for each batch row as well = {(batch, rows)}, "
                f"got {tuple(strength.shape)}"
            )


def _image_rows(call: HostCall, layout: TokenLayout) -> int:
    return layout.count(["image"]) if call.kind == "joint" else call.query.shape[2]


def _check_weights(call: HostCall, layouts: Sequence[TokenLayout], weights: Tensor | None) -> None:
    if weights is None:
        return
    expected = (call.query.shape[0], max(len(layout.negative_lengths) for layout in layouts))
    if tuple(weights.shape) == expected:
        return
    image_rows = {_image_rows(call, layout) for layout in layouts}
    for_each = (*expected, max(image_rows))
    if tuple(weights.shape) != for_each or len(image_rows) > 1:
        raise LayoutError(
            f"weights are (batch, negatives) = {expected}, or one for each image row as well = {for_each}, "
            f"got {tuple(weights.shape)}"
        )


def _is_strength_of(strength: Tensor, batch: int, rows: int) -> bool:
    """Tell whether a strength is without axes, (rows,), (1, rows) or (batch, rows).

    Sizes are compared one by one: compiled code with dynamic shapes does not find a tuple of them among other tuples.
    """
    if strength.dim() == 0:
        return True
    if strength.dim() > 2 or strength.shape[-1] != rows:
        return False
    return strength.dim() == 1 or strength.shape[0] == 1 or strength.shape[0] == batch


def _check_rows(control: Control, layouts: Sequence[TokenLayout]) -> None:
    """Check `unguided` and `emphasis`, which speak of single batch rows."""
    for row in control.unguided or ():
        if not 0 <= row < len(layouts):
            raise LayoutError(f"unguided names batch rows, 0 to {len(layouts) - 1}, got {row}")
    if control.emphasis is None:
        return
    expected = [(layout.count(["positive"]),) for layout in layouts]
    actual: list[tuple[int, ...] | None] = []
    for weights in control.emphasis:
        actual.append(None if weights is None else tuple(weights.shape))
    fits = len(actual) == len(expected)
    for shape, expected_shape in zip(actual, expected, strict=False):
        fits = fits and shape in (None, expected_shape)
    if not fits:
        raise LayoutError(f"emphasis has one weight per positive token of each batch row, {expected}, got {actual}")


def _check_bias(bias: Tensor | None, full: tuple[int, int, int, int]) -> None:
    """Check that the host's mask broadcasts to the logits of the whole call."""
    if bias is None:
        return
    bias = with_four_axes(bias)
    if bias.dim() != 4 or any(size not in (1, needed) for size, needed in zip(bias.shape, full, strict=True)):
        raise LayoutError(
            f"a bias broadcasts to (batch, heads, queries, keys) = {full}, got {tuple(bias.shape)}; "
            "it covers the negative tokens too"
        )
