"""Prompts that a pipeline hands to one tokenizer as they are."""

import inspect
import re
from typing import Any

import torch

from vsf.errors import KnobError
from vsf.families.base.family import Encoded, require_encoders
from vsf.patching.swaps import calls_swapped
from vsf.text.embeddings import TokenizeUnpadded
from vsf.text.token_weights import Characters, characters_of

_VECTOR = re.compile(r" (?P<word>\S+)_\d+")
"""How diffusers writes the further vectors of a textual inversion behind its name."""


class _Read(Exception):  # noqa: N818 - a signal, not an error
    """Carries what a tokenizer was to read out of the pipeline."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text


def taken(pipe: Any, **options: Any) -> dict[str, Any]:
    """Return those of some options that the pipeline's `encode_prompt` takes; not all of one family take the same."""
    return {name: options[name] for name in inspect.signature(pipe.encode_prompt).parameters if name in options}


def encode_plain(pipe: Any, text: str, **options: Any) -> Encoded:
    """Encode with a pipeline that has one tokenizer and one encoder, the end mark included.

    `options` go to the pipeline's `encode_prompt`. Rows that it fills up with are cut off.
    Raises PromptError when the encoder is gone.
    """
    require_encoders(pipe, "text_encoder", "tokenizer")
    tokens = TokenizeUnpadded()
    with torch.no_grad(), calls_swapped([(pipe.tokenizer, tokens)]):
        embeddings, *_ = pipe.encode_prompt(text, do_classifier_free_guidance=False, **options)
    special = tokens.special[0].to(embeddings.device)
    return Encoded(embeddings[0, : len(special)], special)


def characters_read(pipe: Any, text: str, length: int, number: str = "", **options: Any) -> Characters:
    """Tell which characters of a prompt each of `length` tokens stands for; no encoder runs.

    `number` is that of the tokenizer among the pipeline's, `options` go to its `encode_prompt`. Raises KnobError where
    the pipeline changes more than capital letters before its tokenizer reads the text, PromptError when that is gone.
    """
    require_encoders(pipe, f"text_encoder{number}", f"tokenizer{number}")
    tokenizer = getattr(pipe, f"tokenizer{number}")

    def stop(original: object, tokenizer: object, texts: str | list[str], *args: object, **kwargs: object) -> None:
        del original, tokenizer, args, kwargs
        raise _Read(texts if isinstance(texts, str) else texts[0])

    try:
        with calls_swapped([(tokenizer, stop)]):
            pipe.encode_prompt(text, **{"do_classifier_free_guidance": False, **options})
    except _Read as caught:
        read = caught.text
    return _characters(pipe, tokenizer, text, read, length)


def characters_converted(pipe: Any, text: str, tokenizer: Any, length: int) -> Characters:
    """Tell the same for a tokenizer that reads prompts as they are, but for textual inversions of several vectors."""
    read = pipe.maybe_convert_prompt(text, tokenizer) if hasattr(pipe, "maybe_convert_prompt") else text
    return _characters(pipe, tokenizer, text, read, length)


def _characters(pipe: Any, tokenizer: Any, text: str, read: str, length: int) -> Characters:
    """Tell which characters of a prompt each token stands for, given what the tokenizer read. Raises KnobError."""
    origins = _origins(text, read)
    if origins is None:
        raise KnobError(
            f"words of {text!r} cannot be weighed, because {type(pipe).__name__} makes {read!r} of it first; "
            "write it so, or leave (word:1.3) out"
        )
    characters = characters_of(tokenizer, read, length)
    return [(origins[start], origins[stop - 1] + 1) if stop > start else (0, 0) for start, stop in characters]


def _origins(text: str, read: str) -> list[int] | None:
    """Tell for each character that a tokenizer read which character of the prompt it comes from; None if unknown.

    Capital letters may have become small ones. A textual inversion of several vectors stands once in the prompt,
    "style", and is read as "style style_1 style_2": all of it comes from the last character of the word.
    """
    origins: list[int] = []
    at = 0  # in the prompt, where `len(origins)` is in what was read
    while len(origins) < len(read):
        vector = _VECTOR.match(read, len(origins))
        if vector and text[:at].endswith(vector["word"]) and not text.startswith(vector[0], at):
            origins += [at - 1] * len(vector[0])
        elif read[len(origins)].lower() == text[at : at + 1].lower():
            origins.append(at)
            at += 1
        else:
            return None
    return origins if at == len(text) else None
