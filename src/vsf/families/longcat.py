"""LongCat-Image: the shape of FLUX.1, with a text that has positions."""

from contextlib import ExitStack
from typing import Any

import torch

from vsf.families.base.family import Encoded, require_encoders
from vsf.families.layouts.positioned import Placed
from vsf.patching.swaps import swap_class


class LongCat(Placed):
    """LongCat-Image.

    Pipelines fill a text up to 512 tokens, which take part in the attention; the image lies behind row and column 512.
    A text's i-th token lies at row and column i, and so does that of each negative. A negative is never rewritten, as
    the pipelines rewrite a prompt unless told otherwise.
    """

    name = "longcat"
    denoisers = ("LongCatImageTransformer2DModel",)
    counting = (1, 2)

    def encode(self, pipe: Any, text: str) -> Encoded:
        """The prompt's own tokens; what is in quotes is read letter by letter."""
        require_encoders(pipe, "text_encoder", "tokenizer")
        with torch.no_grad(), ExitStack() as stack:
            stack.callback(swap_class(pipe.tokenizer, {"pad": _unfilled}))
            embeddings, _ = pipe.encode_prompt(text)
        return Encoded(embeddings[0], torch.zeros(embeddings.shape[1], dtype=torch.bool, device=embeddings.device))


def _unfilled(original: Any, tokenizer: object, encoded: Any, **options: Any) -> Any:
    """Pad to the longest, which is the only one."""
    return original(tokenizer, encoded, **{**options, "padding": "longest", "max_length": None})
