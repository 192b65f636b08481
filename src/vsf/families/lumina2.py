"""Lumina 2: one stream of tokens, and a caption whose length decides where the image stands."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor

from vsf.attention.layout import Span
from vsf.controls.grid import Grid
from vsf.families.base.family import Encoded, Role
from vsf.families.encoders.chat import encode_chat
from vsf.families.layouts.per_block import BesideStream


class Lumina2(BesideStream):
    """Lumina-Image 2.0.

    A row is [positive | image | filling of the batch | negative], captions without their padding, and the image stands
    where the caption ends. Negatives stand where captions do.
    """

    name, denoisers = "lumina2", ("Lumina2Transformer2DModel",)
    caption, conditions = "time_caption_embed.caption_embedder", ("encoder_hidden_states", "encoder_attention_mask")
    roles, blocks = ((r"layers\.\d+\.attn", Role("joint")),), ("layers",)

    def encode(self, pipe: Any, text: str) -> Encoded:
        """The tokens of Gemma, without the system prompt, which the pipeline puts before positive prompts alone."""
        positive = {"prompt_embeds": torch.zeros(1, 1, 1), "prompt_attention_mask": torch.zeros(1, 1)}
        return encode_chat(pipe, text, lambda: pipe.encode_prompt(None, negative_prompt=text, **positive)[2][0])

    def positions(self, denoiser: Any, tokens: int, like: Tensor) -> Shaped[Tensor, "1 tokens angles"]:
        """Captions count from 0 on the first axis."""
        first = torch.arange(tokens, dtype=torch.int32, device=like.device)
        return denoiser.rope_embedder._get_freqs_cis(torch.stack([first, first * 0, first * 0], 1)[None])

    def spans(self, denoiser: Any, arguments: Mapping[str, Any]) -> Iterable[tuple[Span, ...]]:
        """Caption and image, then what fills the row up to the longest."""
        image, captions = self.grid(denoiser, arguments).tokens, arguments["encoder_attention_mask"].sum(1).tolist()
        rows = [(int(p), max(captions) - p) for p in captions]
        return [(Span("positive", p), Span("image", image), Span("shared", int(rest))) for p, rest in rows]

    def grid(self, denoiser: Any, arguments: Mapping[str, Any]) -> Grid:
        """The latents cut into patches."""
        patch, (height, width) = denoiser.config.patch_size, arguments["hidden_states"].shape[-2:]
        return Grid(height // patch, width // patch)
