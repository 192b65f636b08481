"""Sana and Sana-Sprint: linear attention among image tokens, and softmax attention from them to Gemma's text."""

from typing import ClassVar

from vsf.families.base.family import Encoded
from vsf.families.base.host import Pipeline
from vsf.families.encoders.plain import accepted_kwargs, encode_masked
from vsf.families.layouts.masked_text import MaskedText

_LENGTH = 300
"""Tokens that the pipelines pad a text to."""


class Sana(MaskedText):
    """Sana and Sana-Sprint. Gemma pads at the end and sees no token before its time, so padding changes nothing."""

    name = "sana"
    denoisers = ("SanaTransformer2DModel",)
    pipelines: ClassVar[tuple[str, ...]] = (
        "SanaPipeline",
        "SanaControlNetPipeline",
        "SanaSprintPipeline",
        "SanaSprintImg2ImgPipeline",
    )

    def encode(self, pipe: Pipeline, text: str) -> Encoded:
        """Return the rows of Gemma, without the instruction that the pipelines put before a positive prompt.

        The padding stays until Gemma is done, because the pipelines pick tokens counted from the end.
        """
        # Sana-Sprint's encode_prompt has no such argument.
        options = accepted_kwargs(pipe, do_classifier_free_guidance=False)
        return encode_masked(pipe, text, length=_LENGTH, **options)
