"""Prompts that a language model reads inside a template or a chat, whose beginning the pipeline cuts off again."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vsf.families.base.family import Encoded, require_encoders
from vsf.families.base.host import Pipeline
from vsf.patching.swaps import calls_swapped
from vsf.text.embeddings import TokenizeTemplate


def encode_chat(
    pipe: Pipeline,
    text: str,
    encode: Callable[[], Float[Tensor, "tokens channels"]],
    *,
    without: str = "",
    start: int | None = None,
) -> Encoded:
    """Encode one prompt with the pipeline's tokenizer and text encoder, without padding.

    Args:
        pipe: holds both.
        text: the prompt.
        encode: calls the pipeline, and returns the rows of the tokens that it keeps.
        without: a piece of the template to leave out.
        start: index of the first token that is kept; by default the tokens that are kept are the last ones.

    Raises:
        PromptError: the encoder is gone.
    """
    require_encoders(pipe, "tokenizer" if hasattr(pipe, "tokenizer") else "processor", "text_encoder")
    template = TokenizeTemplate(text, without=without)
    with torch.no_grad(), calls_swapped((tokenizer, template) for tokenizer in _tokenizers(pipe)):
        rows = encode()
    # The pipeline cuts off the beginning of the template, whose tokens were counted too.
    special = template.special[-len(rows) :] if start is None else template.special[start : start + len(rows)]
    return Encoded(rows, special.to(rows.device), template.characters)


def _tokenizers(pipe: Pipeline) -> list[Any]:
    """Return the pipeline's tokenizer and that of its processor, where that is another one.

    A pipeline may hold a processor as its tokenizer, or instead of one; the tokenizer inside it reads the text.
    """
    reader = pipe.tokenizer if hasattr(pipe, "tokenizer") else pipe.processor
    tokenizer = getattr(reader, "tokenizer", reader)
    of_processor = getattr(getattr(pipe, "processor", None), "tokenizer", tokenizer)
    return [tokenizer] if of_processor is tokenizer else [tokenizer, of_processor]
