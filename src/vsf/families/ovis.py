"""Ovis-Image: the shape of FLUX.1, with a text that has positions."""

from vsf.families.base.family import Encoded
from vsf.families.base.host import Pipeline
from vsf.families.encoders.chat import encode_chat
from vsf.families.layouts.positioned import FluxLike


class Ovis(FluxLike):
    """Ovis-Image.

    Pipelines pad a text to 256 tokens with zeros, which take part in the attention. A text's i-th token lies at row
    and column i, and so does that of each negative.
    """

    name = "ovis"
    denoisers = ("OvisImageTransformer2DModel",)
    pipelines = ("OvisImagePipeline",)
    counting = (1, 2)

    def encode(self, pipe: Pipeline, text: str) -> Encoded:
        """Return the tokens of Qwen behind its template; the end of the template comes along."""
        return encode_chat(pipe, text, lambda: pipe.encode_prompt(text, do_classifier_free_guidance=False)[0][0])
