"""Ovis-Image: the shape of FLUX.1, with a text that has positions."""

from typing import Any

from vsf.families.base.family import Encoded
from vsf.families.encoders.chat import encode_chat
from vsf.families.layouts.positioned import Placed


class Ovis(Placed):
    """Ovis-Image.

    Pipelines fill a text up to 256 tokens with zeros, which take part in the attention. A text's i-th token lies at
    row and column i, and so does that of each negative.
    """

    name = "ovis"
    denoisers = ("OvisImageTransformer2DModel",)
    counting = (1, 2)

    def encode(self, pipe: Any, text: str) -> Encoded:
        """The tokens of Qwen behind its template; the end of the template comes along."""
        return encode_chat(pipe, text, lambda: pipe.encode_prompt(text, do_classifier_free_guidance=False)[0][0])
