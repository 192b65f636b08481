"""Tell what a model does not read of its prompts: words that it never learned, and text that is too long."""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby

from vsf import patch, tiny
from vsf.families.base.unread import UnreadWarning
from vsf.generation import Model, Request


def messages(request: Request, model: Model) -> list[str]:
    """Return which words, and which ends of the prompt and the negatives, the model does not read."""
    texts = [request.wanted.positive, *request.wanted.negatives]
    entries = patch.unread(model.pipe, texts)
    lines = []
    if request.model in tiny.MODELS:
        untaught: dict[str, None] = {}  # an ordered set
        for text in texts:
            untaught |= dict.fromkeys(_untaught_words(text))
        if untaught:
            lines.append(f"the model {request.model} does not know: {', '.join(untaught)}.")
        # Their unknown words are in the line above.
        entries = [replace(entry, unknown=()) for entry in entries if entry.cut]
    lines += [f"{entry}." for entry in entries]
    return lines


@contextmanager
def library_warnings_off() -> Iterator[None]:
    """Keep the library from warning of what `messages` says already."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnreadWarning)
        yield


def _untaught_words(text: str) -> Iterator[str]:
    """Yield words, numbers and symbols that the embedded models were never taught; punctuation does not count."""
    taught = tiny.vocabulary()
    for category, characters in groupby(text, key=lambda character: unicodedata.category(character)[0]):
        word = "".join(characters)
        if category in "LNS" and word.lower() not in taught:  # letters, numbers, symbols
            yield word
