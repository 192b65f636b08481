"""Bria FIBO: the shape of FLUX.1, with another layer of the text encoder for each of its blocks."""

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vsf.families.base.family import Encoded, Injection, Tokens
from vsf.families.base.host import CallArguments, Denoiser, Pipeline
from vsf.families.encoders.chat import encode_chat
from vsf.families.layouts.positioned import FluxLike
from vsf.text.embeddings import NegativeRows


class Fibo(FluxLike):
    """Bria FIBO.

    All text tokens have position 0. A token's row in the text and its rows in the layers stand side by side here. A
    batch is padded to its longest text, and a mask over text and image hides the padding.
    """

    name = "fibo"
    denoisers = ("BriaFiboTransformer2DModel",)
    pipelines = ("BriaFiboPipeline", "BriaFiboEditPipeline")
    conditions = ("encoder_hidden_states", "text_encoder_layers", "txt_ids", "joint_attention_kwargs")
    guidance = "batch"

    def encode(self, pipe: Pipeline, text: str) -> Encoded:
        """Return the language model's last two layers, and one for each block, the last again where it has less."""

        def encode() -> Float[Tensor, "tokens channels"]:
            rows, *_, layers, _ = pipe.encode_prompt(text, guidance_scale=1)
            blocks = len(pipe.transformer.transformer_blocks) + len(pipe.transformer.single_transformer_blocks)
            repeated = [layers[-1]] * (blocks - len(layers))
            return torch.cat([rows, *layers[-blocks:], *repeated], -1)[0]

        return encode_chat(pipe, text, encode)

    def text_of(self, arguments: CallArguments) -> Tokens:
        """Return the text with each token's layers side by side."""
        return torch.cat([arguments[self.text], *arguments["text_encoder_layers"]], -1)

    def inject(self, denoiser: Denoiser, arguments: CallArguments, negative: NegativeRows, layout: str) -> Injection:
        """Put the negatives in front of the text and of its layers, and let them be seen."""
        layers = arguments["text_encoder_layers"]
        channels = [part.shape[-1] for part in (arguments[self.text], *layers)]
        negative_text, *negative_layers = negative.embeddings.split(channels, -1)
        longer_layers = [self.joined(*pair) for pair in zip(layers, negative_layers, strict=True)]
        changed: dict[str, Any] = {**arguments, "text_encoder_layers": longer_layers}
        kwargs = arguments.get("joint_attention_kwargs") or {}
        mask = kwargs.get("attention_mask")
        if mask is not None:
            # Older pipelines have a row for every token. The last one is the image's, which sees the whole image, so
            # that its last entry is the value for tokens that are seen.
            mask = mask[..., -1:, :]
            visible = mask[..., -1:].expand(*mask.shape[:-1], negative.embeddings.shape[1])
            changed["joint_attention_kwargs"] = {**kwargs, "attention_mask": self.joined(mask, visible, -1)}
        return super().inject(denoiser, changed, replace(negative, embeddings=negative_text), layout)
