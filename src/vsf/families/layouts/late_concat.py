"""Cross attention to image and text at once, in layers that find the text by counting back from the end."""

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from vsf.attention.layout import TokenLayout
from vsf.families.base.family import Overrides, Running
from vsf.families.base.host import Original


def append_at_kv(layers: Iterable[nn.Module], running: Running) -> Overrides:
    """Take the negatives off the context of these layers, and append them again where keys and values are computed.

    Args:
        layers: are called as layer(image rows, context, ...), with the negatives at the end of the context.
        running: returns the injection of the denoiser call in progress.
    """

    # The layer splits its context by length into image and text, so it must not see the negatives before it has done
    # that; keys and values come right after.
    def call(original: Original, layer: nn.Module, rows: Tensor, context: Tensor, *args: Any) -> Any:
        injection = running()
        if injection is None:
            return original(layer, rows, context, *args)
        negative_tokens = TokenLayout(injection.text[0]).count(["negative"])
        context, negative = context.split([context.shape[1] - negative_tokens, negative_tokens], 1)
        # Looked up anew in each call, because loading a LoRA or fusing replaces the projections.
        projections = [getattr(layer, name) for name in ("to_k", "to_v", "to_kv") if hasattr(layer, name)]
        hooks = [projection.register_forward_pre_hook(partial(_append, negative)) for projection in projections]
        try:
            return original(layer, rows, context, *args)
        finally:
            for hook in hooks:
                hook.remove()

    return [(layer, {"__call__": call}) for layer in layers]


def _append(negative: Tensor, _projection: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
    """Lengthen the text that a projection is called with; the image has projections of its own."""
    (text,) = args
    return (torch.cat([text, negative], 1),)
