"""FLUX.2: text tokens first, in double and in fused single blocks, with positions of their own."""

from vsf.families.base.family import Encoded
from vsf.families.base.host import Pipeline
from vsf.families.encoders.chat import encode_chat
from vsf.families.layouts.positioned import FluxLike


class Flux2(FluxLike):
    """FLUX.2 dev and klein.

    The i-th text token has position i on an axis of its own, and so has that of each negative. Pipelines pad the text
    to 512 tokens, which take part in the attention. The text is a chat: some of its tokens are the template's.
    """

    name = "flux2"
    denoisers = ("Flux2Transformer2DModel",)
    pipelines = ("Flux2Pipeline", "Flux2KleinPipeline", "Flux2KleinInpaintPipeline")
    counting = (3,)

    def encode(self, pipe: Pipeline, text: str) -> Encoded:
        """Return the tokens of the chat as the pipeline writes it."""
        return encode_chat(pipe, text, lambda: pipe.encode_prompt(text)[0][0])
