"""PixArt alpha, Sigma and delta: image tokens attend to T5's text, whose padding is masked."""

from typing import Any

from vsf.families.base.family import Encoded
from vsf.families.encoders.plain import characters_read
from vsf.families.layouts.masked import MaskedText, encode_masked
from vsf.text.embeddings import TokenizeUnpadded
from vsf.text.token_weights import Characters


class PixArt(MaskedText):
    """PixArt alpha, Sigma and delta, in every pipeline of diffusers that uses their transformer."""

    name = "pixart"
    denoisers = ("PixArtTransformer2DModel",)

    def encode(self, pipe: Any, text: str) -> Encoded:
        """Rows of T5; the text is cleaned as the pipeline cleans its prompts unless told otherwise."""
        return encode_masked(pipe, text, TokenizeUnpadded(), do_classifier_free_guidance=False, clean_caption=True)

    def characters(self, pipe: Any, text: str) -> Characters:
        """T5's tokens, as many as there may be, of a text in which nothing has to be cleaned."""
        return characters_read(pipe, text, 300, clean_caption=True)
