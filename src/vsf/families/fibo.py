"""Bria FIBO: the shape of FLUX.1, with another layer of the text encoder for each of its blocks."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vsf.families.base.family import Encoded, Injection
from vsf.families.encoders.chat import encode_chat
from vsf.families.layouts.positioned import Placed
from vsf.text.embeddings import NegativeRows


class Fibo(Placed):
    """Bria FIBO.

    All text tokens have position 0. A token's row in the text and its rows in the layers stand side by side here. A
    batch is filled up to its longest text, and a mask over text and image hides the filling.
    """

    name = "fibo"
    denoisers = ("BriaFiboTransformer2DModel",)
    conditions = ("encoder_hidden_states", "text_encoder_layers", "txt_ids", "joint_attention_kwargs")
    guidance = "batch"

    def encode(self, pipe: Any, text: str) -> Encoded:
        """Rows of the language model: its last two layers, and one for each block, the last again where it has less."""

        def encode() -> Float[Tensor, "tokens channels"]:
            rows, *_, layers, _ = pipe.encode_prompt(text, guidance_scale=1)
            blocks = len(pipe.transformer.transformer_blocks) + len(pipe.transformer.single_transformer_blocks)
            layers = [*layers[-blocks:], *[layers[-1]] * (blocks - len(layers))]
            return torch.cat([rows, *layers], -1)[0]

        return encode_chat(pipe, text, encode)

    def text_of(self, arguments: Mapping[str, Any]) -> Float[Tensor, "batch tokens channels"]:
        """Return the text with each token's layers side by side."""
        return torch.cat([arguments[self.text], *arguments["text_encoder_layers"]], -1)

    def inject(self, denoiser: Any, arguments: Mapping[str, Any], negative: NegativeRows, layout: str) -> Injection:
        """Put the negatives in front of the text and of its layers, and let them be seen."""
        text, layers, tokens = arguments[self.text], arguments["text_encoder_layers"], negative.embeddings.shape[1]
        rows, *added = negative.embeddings.split([each.shape[-1] for each in (text, *layers)], -1)
        changed: dict[str, Any] = {
            "text_encoder_layers": [self.joined(*pair) for pair in zip(layers, added, strict=True)]
        }
        mask = (arguments.get("joint_attention_kwargs") or {}).get("attention_mask")
        if mask is not None:
            mask = mask[..., -1:, :]  # what the image sees, of itself all; older pipelines have a row for every token
            seen = mask[..., -1:].expand(*mask.shape[:-1], tokens)
            mask = self.joined(mask, seen, -1)
            changed["joint_attention_kwargs"] = {**arguments["joint_attention_kwargs"], "attention_mask": mask}
        return super().inject(denoiser, {**arguments, **changed}, replace(negative, embeddings=rows), layout)
