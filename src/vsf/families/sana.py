"""Sana and Sana-Sprint: linear attention among image tokens, and softmax attention from them to Gemma's text."""

from typing import Any

from vsf.families.base.family import Encoded
from vsf.families.layouts.masked import MaskedText, encode_masked
from vsf.text.embeddings import TokenizeUnpadded

_LENGTH = 300
"""How many tokens the pipelines pad a text to."""


class Sana(MaskedText):
    """Sana and Sana-Sprint. Gemma pads at the end and sees no token before its time, so padding changes nothing."""

    name = "sana"
    denoisers = ("SanaTransformer2DModel",)

    def encode(self, pipe: Any, text: str) -> Encoded:
        """Rows of Gemma, without the instruction that the pipelines put before a positive prompt.

        The padding stays until Gemma is done, because the pipelines pick tokens counted from the end.
        """
        options = {"do_classifier_free_guidance": False} if hasattr(type(pipe), "do_classifier_free_guidance") else {}
        return encode_masked(pipe, text, TokenizeUnpadded(_LENGTH), **options)
