"""HunyuanVideo: joint attention, image tokens first, and a text whose length the blocks read off its mask."""

from collections.abc import Iterable
from typing import ClassVar

import torch
from jaxtyping import Bool
from torch import Tensor

from vsf.attention.layout import Span
from vsf.families.base.family import Encoded, Role, Tokens
from vsf.families.base.host import CallArguments, Denoiser, Pipeline
from vsf.families.encoders.chat import encode_chat
from vsf.families.layouts.per_block import PerBlockText


class HunyuanVideo(PerBlockText):
    """HunyuanVideo and SkyReels.

    The token sequence is [image | positive and its padding | negative]. The text's refiner pools the tokens that the
    mask shows, and the blocks take all padding to stand at the end. So the negatives are refined on their own. The
    pooled embedding of CLIP stays the positive's.
    """

    name = "hunyuan_video"
    denoisers: ClassVar[tuple[str, ...]] = ("HunyuanVideoTransformer3DModel",)
    pipelines: ClassVar[tuple[str, ...]] = ("HunyuanVideoPipeline", "HunyuanSkyreelsImageToVideoPipeline")
    roles = ((r"(single_)?transformer_blocks\.\d+\.attn", Role("joint", image="first")),)
    clip_rate: ClassVar[float | None] = 24
    blocks = ("transformer_blocks", "single_transformer_blocks")
    conditions: ClassVar[tuple[str, ...]] = ("encoder_hidden_states", "encoder_attention_mask", "pooled_projections")

    def encode(self, pipe: Pipeline, text: str) -> Encoded:
        """Return the tokens of Llama behind its template."""
        pooled = torch.zeros(1, 1)  # given, so that CLIP is not run for it
        return encode_chat(pipe, text, lambda: pipe.encode_prompt(text, pooled_prompt_embeds=pooled)[0][0])

    def embed(
        self, denoiser: Denoiser, arguments: CallArguments, tokens: Tokens, real: Bool[Tensor, "batch tokens"]
    ) -> Tokens:
        """Run the text's refiner, at the time of the call."""
        return denoiser.context_embedder(tokens, arguments["timestep"], real)

    def spans(self, denoiser: Denoiser, arguments: CallArguments) -> Iterable[tuple[Span, ...]]:
        """Return the text with its padding, which the mask hides."""
        return [(Span("positive", arguments[self.text].shape[1]),)]
