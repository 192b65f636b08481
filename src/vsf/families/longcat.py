"""LongCat-Image: the shape of FLUX.1, with a text that has positions."""

from contextlib import ExitStack
from typing import Any

import torch

from vsf.families.base.family import Encoded, require_encoders
from vsf.families.base.host import Original, Pipeline
from vsf.families.layouts.positioned import FluxLike
from vsf.patching.swaps import swap_class


class LongCat(FluxLike):
    """LongCat-Image.

    Pipelines pad a text to 512 tokens, which take part in the attention; the image lies behind row and column 512. A
    text's i-th token lies at row and column i, and so does that of each negative. A negative is never rewritten, as
    the pipelines rewrite a prompt unless told otherwise.
    """

    name = "longcat"
    denoisers = ("LongCatImageTransformer2DModel",)
    pipelines = ("LongCatImagePipeline",)
    counting = (1, 2)

    def encode(self, pipe: Pipeline, text: str) -> Encoded:
        """Return the prompt's own tokens; words in quotes are read letter by letter."""
        require_encoders(pipe, "text_encoder", "tokenizer")
        with torch.no_grad(), ExitStack() as stack:
            stack.callback(swap_class(pipe.tokenizer, {"pad": _pad_to_longest}))
            embeddings, _ = pipe.encode_prompt(text)
        # The pipeline cuts the template off, so that no token is a mark.
        special = torch.zeros(embeddings.shape[1], dtype=torch.bool, device=embeddings.device)
        return Encoded(embeddings[0], special)


def _pad_to_longest(original: Original, tokenizer: object, encoded: Any, **options: Any) -> Any:
    """Override the tokenizer's `pad`: a single text is the longest one, so it gets no padding."""
    return original(tokenizer, encoded, **{**options, "padding": "longest", "max_length": None})
