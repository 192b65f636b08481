"""Lumina 2: one stream of tokens, and a caption whose length decides where the image stands."""

from collections.abc import Iterable

import torch
from jaxtyping import Shaped
from torch import Tensor

from vsf.attention.layout import Span
from vsf.families.base.family import Encoded, Role
from vsf.families.base.host import CallArguments, Denoiser, Pipeline
from vsf.families.encoders.chat import encode_chat
from vsf.families.layouts.per_block import PerBlockStream
from vsf.families.layouts.positions import on_first_axis


class Lumina2(PerBlockStream):
    """Lumina-Image 2.0.

    A row is [positive | image | padding of the batch | negative], captions without their padding, and the image stands
    where the caption ends. Negatives stand where captions do.
    """

    name = "lumina2"
    denoisers = ("Lumina2Transformer2DModel",)
    pipelines = ("Lumina2Pipeline",)
    roles = ((r"layers\.\d+\.attn", Role("joint")),)
    blocks = ("layers",)
    caption = "time_caption_embed.caption_embedder"
    conditions = ("encoder_hidden_states", "encoder_attention_mask")

    def encode(self, pipe: Pipeline, text: str) -> Encoded:
        """Return the tokens of Gemma without the system prompt, which the pipeline puts before positive prompts alone.

        So the text goes in as a negative prompt, beside a positive one that needs no encoding.
        """
        positive = {"prompt_embeds": torch.zeros(1, 1, 1), "prompt_attention_mask": torch.zeros(1, 1)}
        return encode_chat(pipe, text, lambda: pipe.encode_prompt(None, negative_prompt=text, **positive)[2][0])

    def rope(self, denoiser: Denoiser, tokens: int, device: torch.device) -> Shaped[Tensor, "1 tokens angles"]:
        """Count the caption's tokens from 0 on the first axis."""
        return denoiser.rope_embedder._get_freqs_cis(on_first_axis(tokens, device)[None])

    def spans(self, denoiser: Denoiser, arguments: CallArguments) -> Iterable[tuple[Span, ...]]:
        """Return caption and image, then the padding of the row to the longest."""
        image = self.grid(denoiser, arguments).tokens
        captions = [int(length) for length in arguments["encoder_attention_mask"].sum(1).tolist()]
        longest = max(captions)
        rows = []
        for caption in captions:
            rows.append((Span("positive", caption), Span("image", image), Span("shared", longest - caption)))
        return rows
