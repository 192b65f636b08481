"""HunyuanVideo: joint attention, image tokens first, and a text whose length the blocks read off its mask."""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Bool
from torch import Tensor

from vsf.attention.layout import Span
from vsf.controls.grid import Grid
from vsf.families.base.family import Encoded, Role
from vsf.families.encoders.chat import encode_chat
from vsf.families.layouts.per_block import BesideText, Tokens


class HunyuanVideo(BesideText):
    """HunyuanVideo and SkyReels.

    The token sequence is [image | positive and its padding | negative]. The text's refiner pools the tokens that the
    mask shows, and the blocks take all padding to stand at the end. So the negatives are refined on their own. The
    pooled embedding of CLIP stays the positive's.
    """

    name = "hunyuan_video"
    denoisers: ClassVar[tuple[str, ...]] = ("HunyuanVideoTransformer3DModel",)
    roles = ((r"(single_)?transformer_blocks\.\d+\.attn", Role("joint", image="first")),)
    conditions: ClassVar[tuple[str, ...]] = ("encoder_hidden_states", "encoder_attention_mask", "pooled_projections")
    blocks = ("transformer_blocks", "single_transformer_blocks")

    def encode(self, pipe: Any, text: str) -> Encoded:
        """The tokens of Llama behind its template; that CLIP has done its part is pretended."""
        return encode_chat(pipe, text, lambda: pipe.encode_prompt(text, pooled_prompt_embeds=torch.zeros(1, 1))[0][0])

    def embed(
        self, denoiser: Any, arguments: Mapping[str, Any], tokens: Tokens, real: Bool[Tensor, "batch tokens"]
    ) -> Tokens:
        """The text's refiner, at the time of the call."""
        return denoiser.context_embedder(tokens, arguments["timestep"], real)

    def spans(self, denoiser: Any, arguments: Mapping[str, Any]) -> Iterable[tuple[Span, ...]]:
        """The text with its padding, which the mask hides."""
        del denoiser
        return [(Span("positive", arguments[self.text].shape[1]),)]

    def grid(self, denoiser: Any, arguments: Mapping[str, Any]) -> Grid:
        """The latents cut into patches."""
        patch, (frames, height, width) = denoiser.config.patch_size, arguments["hidden_states"].shape[-3:]
        return Grid(height // patch, width // patch, frames // denoiser.config.patch_size_t)
