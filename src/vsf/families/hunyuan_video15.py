"""HunyuanVideo-1.5: joint attention, image tokens first, and a text that is put together from three encoders."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from vsf.attention.layout import Span
from vsf.controls.grid import Grid
from vsf.families.base.family import Role
from vsf.families.hunyuan_image import HunyuanImage
from vsf.families.layouts.per_block import Tokens


class HunyuanVideo15(HunyuanImage):
    """HunyuanVideo-1.5, from texts or pictures, step-distilled or not.

    The token sequence is [image | real tokens: start picture, ByT5, Qwen | the others | negative]. The start picture is
    seen by the negatives too. Each token of the text has its encoder's mark added, the negatives that of Qwen.
    """

    name = "hunyuan_video15"
    denoisers = ("HunyuanVideo15Transformer3DModel",)
    roles = ((r"transformer_blocks\.\d+\.attn", Role("joint", image="first")),)
    blocks = ("transformer_blocks",)

    def embed(
        self, denoiser: Any, arguments: Mapping[str, Any], tokens: Tokens, real: Bool[Tensor, "batch tokens"]
    ) -> Tokens:
        """The text's refiner, and the mark of Qwen's tokens."""
        refined = super().embed(denoiser, arguments, tokens, real)
        return refined + denoiser.cond_type_embed(torch.zeros_like(real, dtype=torch.long))

    def spans(self, denoiser: Any, arguments: Mapping[str, Any]) -> Iterable[tuple[Span, ...]]:
        """All three with their padding, which the mask hides; without a start picture it is padding."""
        (texts,), picture = super().spans(denoiser, arguments), arguments["image_embeds"]
        seen = picture.shape[1] if bool((picture != 0).any()) else 0
        return [(Span("shared", seen), *texts, Span("positive", picture.shape[1] - seen))]

    def grid(self, denoiser: Any, arguments: Mapping[str, Any]) -> Grid:
        """The latents cut into patches."""
        patch, (frames, height, width) = denoiser.config.patch_size, arguments["hidden_states"].shape[-3:]
        return Grid(height // patch, width // patch, frames // denoiser.config.patch_size_t)
