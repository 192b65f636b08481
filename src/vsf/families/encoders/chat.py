"""Prompts that a language model reads inside a template, whose beginning the pipeline cuts off again."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vsf.families.base.family import Encoded, require_encoders
from vsf.patching.swaps import calls_swapped
from vsf.text.embeddings import TokenizeTemplate


def encode_chat(pipe: Any, text: str, encode: Callable[[], Float[Tensor, "tokens channels"]]) -> Encoded:
    """Encode one text with the pipeline's tokenizer and text encoder, without padding.

    `encode` calls the pipeline and returns the tokens it keeps, which are the last ones.
    Raises PromptError when the encoder is gone.
    """
    require_encoders(pipe, "tokenizer", "text_encoder")
    words = TokenizeTemplate(text)
    with torch.no_grad(), calls_swapped([(pipe.tokenizer, words)]):
        tokens = encode()
    return Encoded(tokens, words.special[-len(tokens) :].to(tokens.device), words.characters)
