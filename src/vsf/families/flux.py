"""FLUX.1: two text streams in joint attention, text tokens first."""

from typing import Any

import torch

from vsf.families.base.family import Encoded, require_encoders
from vsf.families.encoders.plain import characters_converted
from vsf.families.layouts.positioned import Placed
from vsf.patching.swaps import calls_swapped
from vsf.text.embeddings import TokenizeUnpadded
from vsf.text.token_weights import Characters


class Flux(Placed):
    """FLUX.1 schnell and dev, and the models of the same shape: Kontext, Fill, Depth, Canny, Krea.

    All text tokens have position 0. Pipelines pad T5's text to 512 tokens, which take part in the attention; T5 itself
    runs without a mask. CLIP's pooled embedding stays the positive's.
    """

    name = "flux"
    denoisers = ("FluxTransformer2DModel",)
    conditions = ("encoder_hidden_states", "pooled_projections", "txt_ids")

    def encode(self, pipe: Any, text: str) -> Encoded:
        """Rows of T5; the pipeline has CLIP encode the text as well, for its pooled embedding, which is not used."""
        require_encoders(pipe, "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
        t5 = TokenizeUnpadded()
        with torch.no_grad(), calls_swapped([(pipe.tokenizer_2, t5)]):
            embeddings, *_ = pipe.encode_prompt(text, None)
        return Encoded(embeddings[0], t5.special[0].to(embeddings.device))

    def characters(self, pipe: Any, text: str) -> Characters:
        """T5's tokens, as many as there may be."""
        return characters_converted(pipe, text, pipe.tokenizer_2, 512)
