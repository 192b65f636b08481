"""HiDream: joint attention, image tokens first, and a text that stands in the sequence three times."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool
from torch import Tensor

from vsf.families.base.family import Injection, Role
from vsf.families.encoders.hidream import HiDreamTokens
from vsf.families.layouts.per_block import Beside, Tokens, Travelling
from vsf.text.embeddings import NegativeRows


class HiDream(HiDreamTokens, Beside):
    """HiDream-I1: Full, Dev and Fast.

    A row is [image | its filling | T5 | Llama's last layer | Llama's layer for this block | negative]; the layer is new
    in each block. So every token of a negative stands there three times. Text has no positions, CLIP's part is pooled.
    """

    name, denoisers, guidance = "hidream", ("HiDreamImageTransformer2DModel",), "batch"
    blocks = ("double_stream_blocks", "single_stream_blocks")
    roles = ((r"(double|single)_stream_blocks\.\d+\.block\.attn1", Role("joint")),)

    def embed(self, denoiser: Any, arguments: Mapping[str, Any], tokens: Tokens, real: Bool[Tensor, "..."]) -> Tokens:
        """Return T5, the last layer, and the layer of every block, side by side."""
        *projections, t5 = denoiser.caption_projection
        width = arguments[self.text].shape[-1]
        every = tokens[..., width:].unflatten(-1, (len(arguments[self.layers]), -1))
        wanted = zip(denoiser.config.llama_layers, projections, strict=True)
        layers = [project(every[..., number, :]) for number, project in wanted]
        return torch.cat([t5(tokens[..., :width]), layers[-1], *layers], -1)

    def carry(self, block: Callable[..., Any], travelling: Travelling, *args: Any, **kwargs: Any) -> Any:
        """Put the first three behind the text, and keep what becomes of two. Single blocks have text in the stream."""
        stream, mask, text, time, angles = args or kwargs.values()
        rows = travelling.arrived().unflatten(-1, (-1, stream.shape[-1]))
        now, added = rows[:, :, :3].flatten(1, 2), 3 * rows.shape[1]
        angles = torch.cat([angles, angles[:, -1:].expand(-1, added, *angles.shape[2:])], 1)
        if text is None:
            mask = None if mask is None else F.pad(mask, (0, added), value=1)
            out = [block(torch.cat([stream, now], 1), mask, None, time, angles)]
        else:
            out = [*block(stream, mask, torch.cat([text, now], 1), time, angles)]
        last = out.pop()
        kept = last[:, -added:].unflatten(1, (-1, 3))[:, :, :2]
        travelling.tokens = torch.cat([kept, rows[:, :, 3:]], 2).flatten(2)
        return (*out, last[:, :-added]) if out else last[:, :-added]

    def inject(self, denoiser: Any, arguments: Mapping[str, Any], negative: NegativeRows, layout: str) -> Injection:
        """Let every token of a negative count three times."""
        made = super().inject(denoiser, arguments, negative, layout)
        times, valid = {"negative": 3}, made.valid
        text = tuple(replace(span, length=times.get(span.kind, 1) * span.length) for span in made.text[0])
        return replace(made, text=(text,), valid=None if valid is None else valid.repeat_interleave(3, 1))
