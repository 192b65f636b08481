"""Chroma: FLUX.1 without CLIP, and with a mask over the whole sequence."""

from collections.abc import Mapping
from typing import Any

from vsf.families.base.family import Encoded, Injection
from vsf.families.encoders.plain import characters_read, encode_plain
from vsf.families.flux import Flux
from vsf.text.embeddings import NegativeRows
from vsf.text.token_weights import Characters


class Chroma(Flux):
    """Chroma1, Flash and Radiance's relatives of the same transformer.

    The token sequence is FLUX.1's. Pipelines pad T5's text to 512 tokens; their mask is added to the logits as it
    stands, so that a real token has 1 more than padding.
    """

    name = "chroma"
    denoisers = ("ChromaTransformer2DModel",)
    conditions = ("encoder_hidden_states", "txt_ids", "attention_mask")

    def encode(self, pipe: Any, text: str) -> Encoded:
        """Rows of T5, its end mark included."""
        return encode_plain(pipe, text)

    def characters(self, pipe: Any, text: str) -> Characters:
        """T5's tokens, as many as there may be."""
        return characters_read(pipe, text, 512)

    def inject(self, denoiser: Any, arguments: Mapping[str, Any], negative: NegativeRows, layout: str) -> Injection:
        """Put the negatives in front, in the mask as real tokens."""
        mask = arguments.get("attention_mask")
        if mask is not None:
            added = mask.new_ones(len(mask), negative.embeddings.shape[1])
            arguments = {**arguments, "attention_mask": self.joined(mask, added)}
        return super().inject(denoiser, arguments, negative, layout)
