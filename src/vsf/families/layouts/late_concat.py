"""Cross attention to image and text together, in layers that find the text by counting back from the end."""

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from vsf.attention.layout import TokenLayout
from vsf.families.base.family import Overrides, Running


def joined_late(layers: Iterable[nn.Module], running: Running) -> Overrides:
    """Take the negatives off what these layers get, and append them again where keys and values are made.

    The layers are called as layer(image rows, context, ...) with the negatives last in the context. Their projections
    are looked up anew in each call, because loading a LoRA or fusing replaces them.
    """

    def call(original: Any, layer: nn.Module, rows: Tensor, context: Tensor, *others: Any) -> Any:
        injection = running()
        if injection is None:
            return original(layer, rows, context, *others)
        added = TokenLayout(injection.text[0]).count(["negative"])
        context, negative = context.split([context.shape[1] - added, added], 1)
        makers = [getattr(layer, name) for name in ("to_k", "to_v", "to_kv") if hasattr(layer, name)]
        hooks = [maker.register_forward_pre_hook(partial(_joined, negative)) for maker in makers]
        try:
            return original(layer, rows, context, *others)
        finally:
            for hook in hooks:
                hook.remove()

    return [(layer, {"__call__": call}) for layer in layers]


def _joined(negative: Tensor, maker: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
    del maker
    (text,) = args
    return (torch.cat([text, negative], 1),)
