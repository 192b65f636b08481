"""PixArt alpha, Sigma and delta: image tokens attend to T5's text, whose padding is masked."""

from vsf.families.base.family import Encoded
from vsf.families.base.host import Pipeline
from vsf.families.encoders.plain import char_offsets, encode_masked
from vsf.families.layouts.masked_text import MaskedText
from vsf.text.token_weights import Characters


class PixArt(MaskedText):
    """PixArt alpha, Sigma and delta, in every pipeline of diffusers that uses their transformer."""

    name = "pixart"
    denoisers = ("PixArtTransformer2DModel",)
    pipelines = ("PixArtAlphaPipeline", "PixArtSigmaPipeline")

    def encode(self, pipe: Pipeline, text: str) -> Encoded:
        """Return the rows of T5; the text is cleaned as the pipeline cleans its prompts by default."""
        return encode_masked(pipe, text, do_classifier_free_guidance=False, clean_caption=True)

    def characters(self, pipe: Pipeline, text: str) -> Characters:
        """Return the characters of T5's tokens, at the full length of 300, of a text that needs no cleaning."""
        return char_offsets(pipe, text, 300, clean_caption=True)
