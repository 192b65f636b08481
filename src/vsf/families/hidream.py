"""HiDream: joint attention, image tokens first, and a text that stands in the sequence three times."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from vsf.families.base.family import Injection, NegativeStream, Role, Tokens
from vsf.families.base.host import CallArguments, Denoiser
from vsf.families.base.masks import extend_mask
from vsf.families.encoders.hidream import HiDreamTokens
from vsf.families.layouts.per_block import PerBlock
from vsf.text.embeddings import NegativeRows


class HiDream(HiDreamTokens, PerBlock):
    """HiDream-I1: Full, Dev and Fast.

    A row is [image | its padding | T5 | Llama's last layer | Llama's layer for this block | negative]; the layer is new
    in each block. So every token of a negative stands there three times. Text has no positions, CLIP's part is pooled.
    """

    name = "hidream"
    denoisers = ("HiDreamImageTransformer2DModel",)
    pipelines = ("HiDreamImagePipeline",)
    roles = ((r"(double|single)_stream_blocks\.\d+\.block\.attn1", Role("joint")),)
    blocks = ("double_stream_blocks", "single_stream_blocks")
    guidance = "batch"

    def embed(
        self, denoiser: Denoiser, arguments: CallArguments, tokens: Tokens, real: Bool[Tensor, "batch tokens"]
    ) -> Tokens:
        """Return T5, the last layer, and the layer of every block, side by side."""
        *llama_projections, t5_projection = denoiser.caption_projection
        t5_channels = arguments[self.text].shape[-1]
        llama_layers = tokens[..., t5_channels:].unflatten(-1, (len(arguments[self.layers]), -1))
        projected = []
        for layer, project in zip(denoiser.config.llama_layers, llama_projections, strict=True):
            projected.append(project(llama_layers[..., layer, :]))
        return torch.cat([t5_projection(tokens[..., :t5_channels]), projected[-1], *projected], -1)

    def call_block(self, block: Callable[..., Any], stream: NegativeStream, *args: Any, **kwargs: Any) -> Any:
        """Put each token's T5, last layer and this block's layer behind the text.

        The first two go on as the block returns them, the layers of later blocks as they are. Single blocks have the
        text in the stream of image tokens.
        """
        tokens, mask, text, time, angles = args or kwargs.values()
        parts = stream.enter().unflatten(-1, (-1, tokens.shape[-1]))
        negative = parts[:, :, :3].flatten(1, 2)
        added = negative.shape[1]
        # Text has no positions: all of its tokens have the angles of the last one.
        angles = torch.cat([angles, angles[:, -1:].expand(-1, added, *angles.shape[2:])], 1)
        if text is None:
            tokens = torch.cat([tokens, negative], 1)
            outputs = [block(tokens, extend_mask(mask, added), None, time, angles)]
        else:
            outputs = [*block(tokens, mask, torch.cat([text, negative], 1), time, angles)]
        text_output = outputs.pop()
        continued = text_output[:, -added:].unflatten(1, (-1, 3))[:, :, :2]
        # The third is spent: the next block gets the next of the layers behind it.
        stream.tokens = torch.cat([continued, parts[:, :, 3:]], 2).flatten(2)
        text_output = text_output[:, :-added]
        return (*outputs, text_output) if outputs else text_output

    def inject(self, denoiser: Denoiser, arguments: CallArguments, negative: NegativeRows, layout: str) -> Injection:
        """Count every token of a negative three times."""
        injection = super().inject(denoiser, arguments, negative, layout)
        spans = []
        for span in injection.text[0]:
            spans.append(replace(span, length=3 * span.length) if span.kind == "negative" else span)
        valid = injection.valid
        tripled = None if valid is None else valid.repeat_interleave(3, 1)
        return replace(injection, text=(tuple(spans),), valid=tripled)
