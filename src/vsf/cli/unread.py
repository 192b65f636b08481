"""What a model does not read of its prompts: words it was never taught, and whatever is too long."""

from __future__ import annotations

import inspect
import unicodedata
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from vsf import tiny
from vsf.generate import Model, Request

SHOWN = 60  # characters of a text in a note
UNLIMITED = 1_000_000  # a tokenizer that names more tokens than this says that it has no limit


def notes(request: Request, model: Model) -> list[str]:
    """Say which words, and which ends of the prompt and of the negatives, the model does not read."""
    texts = [request.wanted.positive, *request.wanted.negatives]
    told = []
    unknown = dict.fromkeys(word for text in texts for word in _unknown_words(request.model, model.pipe, text))
    if unknown:
        told.append(f"the model {request.model} does not know: {', '.join(map(_short, unknown))}.")
    for text in texts:
        parts: dict[tuple[int, str], list[str]] = {}
        for part, limit, rest in _cut_off(model.pipe, text):
            parts.setdefault((limit, rest), []).append(part)
        told += [
            f'"{_short(text)}" is too long: {" and ".join(names)} of the model reads {limit} tokens, '
            f'and does not see "{_short(rest)}".'
            for (limit, rest), names in parts.items()
        ]
    return told


def _unknown_words(name: str, pipe: Any, text: str) -> Iterator[str]:
    """Yield words that the embedded model was never taught, or that a tokenizer has no tokens for."""
    if name in tiny.MODELS:
        taught = tiny.vocabulary()
        yield from (word for word in _words(text) if word.lower() not in taught)
        return
    for _, tokenizer in _tokenizers(pipe):
        if tokenizer.unk_token_id is not None:
            yield from (word for word in text.split() if tokenizer.unk_token_id in _tokens(tokenizer, word))


def _words(text: str) -> Iterator[str]:
    """Yield runs of letters, of digits and of symbols such as emoji; punctuation is none of them."""
    for kind, characters in groupby(text, key=lambda character: unicodedata.category(character)[0]):
        if kind in "LNS":
            yield "".join(characters)


def _cut_off(pipe: Any, text: str) -> Iterator[tuple[str, int, str]]:
    """Yield, for each tokenizer for which a text is too long, its part, its limit and what is left out."""
    for part, tokenizer in _tokenizers(pipe):
        limit = _limit(pipe, tokenizer)
        room = limit - tokenizer.num_special_tokens_to_add()
        tokens = _tokens(tokenizer, text)
        if len(tokens) > room:
            yield part, limit, tokenizer.decode(tokens[room:]).strip()


def _tokenizers(pipe: Any) -> Iterator[tuple[str, Any]]:
    return ((name, part) for name, part in pipe.components.items() if name.startswith("tokenizer") and part is not None)


def _tokens(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False, truncation=False, padding=False).input_ids)


def _limit(pipe: Any, tokenizer: Any) -> int:
    """Return how many tokens are read: CLIP has so many positions, of others the pipeline takes so many."""
    limit = min(tokenizer.model_max_length, UNLIMITED)
    default = inspect.signature(type(pipe).__call__).parameters.get("max_sequence_length")
    if "CLIP" in type(tokenizer).__name__ or default is None or not isinstance(default.default, int):
        return int(limit)
    return int(min(limit, default.default))


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[: SHOWN // 2].rstrip()} ... {text[-SHOWN // 2 :].lstrip()}"
