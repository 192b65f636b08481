"""PRX: image tokens attend to the text and to each other at once."""

from dataclasses import replace
from typing import ClassVar

from vsf.attention.layout import Span
from vsf.families.base.family import Encoded, Injection, Role
from vsf.families.base.host import CallArguments, Denoiser, Pipeline
from vsf.families.encoders.plain import encode_masked
from vsf.families.layouts.masked_text import MaskedText
from vsf.text.embeddings import NegativeRows


class Prx(MaskedText):
    """PRX.

    The keys are [positive | negative | image]; text tokens have no queries and pass through the blocks unchanged.
    """

    name = "prx"
    denoisers = ("PRXTransformer2DModel",)
    pipelines = ("PRXPipeline", "PRXPixelPipeline")
    roles = ((r"blocks\.\d+\.attention", Role("cross")),)
    text_mask = "attention_mask"
    conditions: ClassVar[tuple[str, ...]] = ("encoder_hidden_states", "attention_mask")

    def encode(self, pipe: Pipeline, text: str) -> Encoded:
        """Return the rows of the encoder; the text is cleaned as the pipeline cleans its prompts by default."""
        return encode_masked(pipe, text, do_classifier_free_guidance=False)

    def inject(self, denoiser: Denoiser, arguments: CallArguments, negative: NegativeRows, layout: str) -> Injection:
        """Append the negatives to the text; the image comes behind."""
        injection = super().inject(denoiser, arguments, negative, layout)
        image = Span("image", self.grid(denoiser, arguments).tokens)
        return replace(injection, text=((*injection.text[0], image),))
