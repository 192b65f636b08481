"""Prompts that a pipeline hands to a tokenizer as they are."""

import inspect
import re
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vsf.errors import KnobError
from vsf.families.base.family import Encoded, require_encoders
from vsf.families.base.host import Pipeline, Tokenizer
from vsf.patching.swaps import calls_swapped
from vsf.text.embeddings import TokenizeUnpadded
from vsf.text.token_weights import Characters, characters_of

_FURTHER_VECTOR = re.compile(r" (?P<word>\S+)_\d+")
"""The further vectors of a textual inversion, as diffusers writes them behind its name."""


class _StopAtTokenizer(Exception):  # noqa: N818 - a signal, not an error
    """Carries the text that a tokenizer was called with out of the pipeline."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text


def accepted_kwargs(pipe: Pipeline, **options: Any) -> dict[str, Any]:
    """Drop the keyword arguments that this pipeline's `encode_prompt` does not accept."""
    parameters = inspect.signature(pipe.encode_prompt).parameters
    return {name: value for name, value in options.items() if name in parameters}


def encode_unpadded(tokenizer: Tokenizer, encode: Callable[[], Float[Tensor, "tokens channels"]]) -> Encoded:
    """Encode one prompt without the padding that the pipeline asks its tokenizer for.

    Args:
        tokenizer: the one whose padding is left out.
        encode: calls the pipeline, and returns the rows of the prompt's tokens; rows that the pipeline adds behind them
            are cut off.
    """
    unpadded = TokenizeUnpadded()
    with torch.no_grad(), calls_swapped([(tokenizer, unpadded)]):
        rows = encode()
    special = unpadded.special[0].to(rows.device)
    return Encoded(rows[: len(special)], special)


def encode_plain(pipe: Pipeline, text: str, **options: Any) -> Encoded:
    """Encode with a pipeline that has one tokenizer and one encoder, the end mark included.

    Args:
        pipe: holds both.
        text: the prompt.
        **options: of the pipeline's `encode_prompt`.

    Raises:
        PromptError: the encoder is gone.
    """
    require_encoders(pipe, "text_encoder", "tokenizer")
    options = {"do_classifier_free_guidance": False, **options}
    return encode_unpadded(pipe.tokenizer, lambda: pipe.encode_prompt(text, **options)[0][0])


def encode_masked(pipe: Pipeline, text: str, *, length: int | None = None, **options: Any) -> Encoded:
    """Encode with a pipeline that returns (embeddings, mask, ...), and keep the tokens that the mask shows.

    Args:
        pipe: has one tokenizer and one encoder.
        text: the prompt.
        length: pad to so many tokens before encoding; by default not at all.
        **options: of the pipeline's `encode_prompt`.

    Raises:
        PromptError: the encoder is gone.
    """
    require_encoders(pipe, "text_encoder", "tokenizer")
    tokens = TokenizeUnpadded(length)
    with torch.no_grad(), calls_swapped([(pipe.tokenizer, tokens)]):
        embeddings, mask, *_ = pipe.encode_prompt(text, **options)
    keep = mask[0].bool().to(embeddings.device)
    return Encoded(embeddings[0, keep], tokens.special[0].to(keep.device)[keep])


def char_offsets(pipe: Pipeline, text: str, length: int, number: str = "", **options: Any) -> Characters:
    """Return the characters of a prompt that each of `length` tokens stands for, without running an encoder.

    Args:
        pipe: its `encode_prompt` is called, and stopped at the tokenizer, because pipelines may change the text first.
        text: the prompt.
        length: of the padded prompt, in tokens.
        number: of the tokenizer and its encoder among the pipeline's, such as "_2".
        **options: of the pipeline's `encode_prompt`.

    Raises:
        KnobError: the pipeline changes more of the text than capital letters.
        PromptError: the encoder is gone.
    """
    require_encoders(pipe, f"text_encoder{number}", f"tokenizer{number}")
    tokenizer = getattr(pipe, f"tokenizer{number}")

    def stop(_original: object, _tokenizer: object, texts: str | list[str], *_args: object, **_kwargs: object) -> None:
        raise _StopAtTokenizer(texts if isinstance(texts, str) else texts[0])

    try:
        with calls_swapped([(tokenizer, stop)]):
            pipe.encode_prompt(text, **{"do_classifier_free_guidance": False, **options})
    except _StopAtTokenizer as stopped:
        tokenized = stopped.text
    return _char_offsets(pipe, tokenizer, text, tokenized, length)


def char_offsets_verbatim(pipe: Pipeline, text: str, tokenizer: Tokenizer, length: int) -> Characters:
    """Do the same for a tokenizer that gets prompts as they are, but for textual inversions of several vectors."""
    tokenized = pipe.maybe_convert_prompt(text, tokenizer) if hasattr(pipe, "maybe_convert_prompt") else text
    return _char_offsets(pipe, tokenizer, text, tokenized, length)


def _char_offsets(pipe: Pipeline, tokenizer: Tokenizer, text: str, tokenized: str, length: int) -> Characters:
    """Do the same, given the text that the tokenizer got. Raises KnobError."""
    origins = _origins(text, tokenized)
    if origins is None:
        raise KnobError(
            f"words of {text!r} cannot be weighed, because {type(pipe).__name__} makes {tokenized!r} of it first; "
            "write it so, or leave (word:1.3) out"
        )
    characters = []
    for start, stop in characters_of(tokenizer, tokenized, length):
        characters.append((origins[start], origins[stop - 1] + 1) if stop > start else (0, 0))
    return characters


def _origins(text: str, tokenized: str) -> list[int] | None:
    """Return for each character that a tokenizer got the index of the prompt's character it comes from.

    Capital letters may have become small ones. A textual inversion of several vectors stands once in the prompt,
    "style", and is tokenized as "style style_1 style_2": all of it comes from the last character of the word.

    Returns:
        None when the texts differ in anything else.
    """
    origins: list[int] = []
    at = 0  # the index in `text` that belongs to the index `len(origins)` in `tokenized`
    while len(origins) < len(tokenized):
        vector = _FURTHER_VECTOR.match(tokenized, len(origins))
        if vector and text[:at].endswith(vector["word"]) and not text.startswith(vector[0], at):
            origins += [at - 1] * len(vector[0])
        elif tokenized[len(origins)].lower() == text[at : at + 1].lower():
            origins.append(at)
            at += 1
        else:
            return None
    return origins if at == len(text) else None
