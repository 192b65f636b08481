"""Chroma: FLUX.1 without CLIP, and with a mask over the whole sequence."""

from vsf.families.base.family import Encoded, Injection
from vsf.families.base.host import CallArguments, Denoiser, Pipeline
from vsf.families.base.masks import extend_mask
from vsf.families.encoders.plain import char_offsets, encode_plain
from vsf.families.layouts.positioned import FluxLike
from vsf.text.embeddings import NegativeRows
from vsf.text.token_weights import Characters


class Chroma(FluxLike):
    """Chroma1, Flash and Radiance's relatives of the same transformer.

    The token sequence is FLUX.1's. Pipelines pad T5's text to 512 tokens. Their mask is added to the logits as numbers,
    so that a real token has 1 more than padding.
    """

    name = "chroma"
    denoisers = ("ChromaTransformer2DModel",)
    pipelines = (
        "ChromaPipeline",
        "ChromaImg2ImgPipeline",
        "ChromaInpaintPipeline",
    )
    conditions = ("encoder_hidden_states", "txt_ids", "attention_mask")

    def encode(self, pipe: Pipeline, text: str) -> Encoded:
        """Return the rows of T5, its end mark included."""
        return encode_plain(pipe, text)

    def characters(self, pipe: Pipeline, text: str) -> Characters:
        """Return the characters of T5's tokens, at the full length of 512."""
        return char_offsets(pipe, text, 512)

    def inject(self, denoiser: Denoiser, arguments: CallArguments, negative: NegativeRows, layout: str) -> Injection:
        """Put the negatives in front, in the mask as real tokens."""
        mask = arguments.get("attention_mask")
        if mask is not None:
            longer_mask = extend_mask(mask, negative.embeddings.shape[1], in_front=True)
            arguments = {**arguments, "attention_mask": longer_mask}
        return super().inject(denoiser, arguments, negative, layout)
