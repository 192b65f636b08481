"""FLUX.1: two text streams in joint attention, text tokens first."""

from collections.abc import Mapping
from typing import Any

import torch

from vsf.emphasis import Characters, characters_of
from vsf.encode import NegativeRows, Unpadded
from vsf.families.base import Encoded, Family, Injection, Role, require_encoders
from vsf.grid import Grid
from vsf.hooks import calls_swapped


class Flux(Family):
    """FLUX.1 schnell and dev, and the models of the same shape: Kontext, Fill, Depth, Canny, Krea.

    The token sequence is [positive | negative | image | reference image], in double and single blocks alike. All text
    tokens have position 0. Pipelines pad T5's text to 512 tokens, which take part in the attention; T5 itself runs
    without a mask. CLIP's pooled embedding stays the positive's.
    """

    name = "flux"
    denoisers = ("FluxTransformer2DModel",)
    roles = ((r"(single_)?transformer_blocks\.\d+\.attn", Role("joint", image="last")),)
    conditions = ("encoder_hidden_states", "pooled_projections", "txt_ids")

    def encode(self, pipe: Any, text: str) -> Encoded:
        """Rows of T5; the pipeline has CLIP encode the text as well, for its pooled embedding, which is not used."""
        require_encoders(pipe, "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
        t5 = Unpadded()
        with torch.no_grad(), calls_swapped([(pipe.tokenizer_2, t5)]):
            embeddings, *_ = pipe.encode_prompt(text, None)
        return Encoded(embeddings[0], t5.special[0].to(embeddings.device))

    def characters(self, pipe: Any, text: str) -> Characters:
        """T5's tokens, as many as there may be."""
        return characters_of(pipe.tokenizer_2, text, 512)

    def grid(self, denoiser: Any, arguments: Mapping[str, Any]) -> Grid:
        """The image tokens' positions; those of reference images have another number in front."""
        ids = arguments["img_ids"]
        return Grid.of_positions(ids if ids.ndim == 2 else ids[0])

    def inject(self, denoiser: Any, arguments: Mapping[str, Any], negative: NegativeRows, layout: str) -> Injection:
        """Append the negatives, and as many positions."""
        ids = arguments["txt_ids"]
        zeros = ids.new_zeros(*ids.shape[:-2], negative.embeddings.shape[1], ids.shape[-1])
        return super().inject(denoiser, {**arguments, "txt_ids": torch.cat([ids, zeros], -2)}, negative, layout)
