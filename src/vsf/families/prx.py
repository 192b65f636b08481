"""PRX: image tokens attend to the text and to each other at once."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from vsf.attention.layout import Span
from vsf.families.base.family import Encoded, Injection, Role
from vsf.families.layouts.masked import MaskedText, encode_masked
from vsf.text.embeddings import NegativeRows, TokenizeUnpadded


class Prx(MaskedText):
    """PRX.

    The keys are [positive | negative | image]; text tokens ask for nothing and stay as they are.
    """

    name = "prx"
    denoisers = ("PRXTransformer2DModel",)
    roles = ((r"blocks\.\d+\.attention", Role("cross")),)
    text_mask = "attention_mask"
    conditions: ClassVar[tuple[str, ...]] = ("encoder_hidden_states", "attention_mask")

    def encode(self, pipe: Any, text: str) -> Encoded:
        """Rows of the encoder; the text is cleaned as the pipeline cleans its prompts unless told otherwise."""
        return encode_masked(pipe, text, TokenizeUnpadded(), do_classifier_free_guidance=False)

    def inject(self, denoiser: Any, arguments: Mapping[str, Any], negative: NegativeRows, layout: str) -> Injection:
        """Append the negatives to the text; the image comes behind."""
        made = super().inject(denoiser, arguments, negative, layout)
        image = Span("image", self.grid(denoiser, arguments).tokens)
        return replace(made, text=((*made.text[0], image),))
