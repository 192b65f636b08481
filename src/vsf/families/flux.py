"""FLUX.1: two text streams in joint attention, text tokens first."""

from vsf.families.base.family import Encoded, require_encoders
from vsf.families.base.host import Pipeline
from vsf.families.encoders.plain import char_offsets_verbatim, encode_unpadded
from vsf.families.layouts.positioned import FluxLike
from vsf.text.token_weights import Characters


class Flux(FluxLike):
    """FLUX.1 schnell and dev, and the models of the same shape: Kontext, Fill, Depth, Canny, Krea.

    All text tokens have position 0. Pipelines pad T5's text to 512 tokens, which take part in the attention; T5 itself
    runs without a mask. CLIP's pooled embedding stays the positive's.
    """

    name = "flux"
    denoisers = ("FluxTransformer2DModel",)
    pipelines = (
        "FluxPipeline",
        "FluxImg2ImgPipeline",
        "FluxInpaintPipeline",
        "FluxFillPipeline",
        "FluxKontextPipeline",
        "FluxKontextInpaintPipeline",
        "FluxControlPipeline",
        "FluxControlImg2ImgPipeline",
        "FluxControlInpaintPipeline",
        "FluxControlNetPipeline",
        "FluxControlNetImg2ImgPipeline",
        "FluxControlNetInpaintPipeline",
    )
    conditions = ("encoder_hidden_states", "pooled_projections", "txt_ids")

    def encode(self, pipe: Pipeline, text: str) -> Encoded:
        """Return the rows of T5; the pipeline runs CLIP too, for a pooled embedding that is not used."""
        require_encoders(pipe, "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
        # The second argument is prompt_2; None hands the same text to T5.
        return encode_unpadded(pipe.tokenizer_2, lambda: pipe.encode_prompt(text, None)[0][0])

    def characters(self, pipe: Pipeline, text: str) -> Characters:
        """Return the characters of T5's tokens, at the full length of 512."""
        return char_offsets_verbatim(pipe, text, pipe.tokenizer_2, 512)
