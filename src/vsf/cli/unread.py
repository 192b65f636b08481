"""What a model does not read of its prompts: words it was never taught, and whatever is too long."""

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


def notes(request: Request, model: Model) -> list[str]:
    """Say which words, and which ends of the prompt and of the negatives, the model does not read."""
    texts = [request.wanted.positive, *request.wanted.negatives]
    entries = patch.unread(model.pipe, texts)
    lines = []
    if request.model in tiny.MODELS:
        untaught = dict.fromkeys(word for text in texts for word in _untaught(text))
        lines = [f"the model {request.model} does not know: {', '.join(untaught)}."] if untaught else []
        entries = [replace(entry, unknown=()) for entry in entries if entry.cut]  # its unknown words are told already
    return lines + [f"{entry}." for entry in entries]


@contextmanager
def told() -> Iterator[None]:
    """Keep the library from warning of what the notes have told already."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnreadWarning)
        yield


def _untaught(text: str) -> Iterator[str]:
    """Yield words, numbers and symbols that the embedded models were never taught; punctuation does not count."""
    taught = tiny.vocabulary()
    for kind, characters in groupby(text, key=lambda character: unicodedata.category(character)[0]):
        word = "".join(characters)
        if kind in "LNS" and word.lower() not in taught:
            yield word
