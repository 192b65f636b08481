"""Feedback on a run: text of the prompts that the model does not read, and the effect of the negatives on a picture."""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsf import tiny
from vsf.cli import console
from vsf.generation.files import report_files

if TYPE_CHECKING:
    from vsf.generation import Model, Request, Result


def unread_messages(request: Request, model: Model) -> list[str]:
    """Return which words, and which ends of the prompt and the negatives, the model does not read."""
    from vsf import patch

    texts = [request.wanted.positive, *request.wanted.negatives]
    entries = patch.unread(model.pipe, texts)
    is_embedded = request.model in tiny.MODELS
    messages = []
    if is_embedded:
        untaught: dict[str, None] = {}  # an ordered set
        for text in texts:
            untaught |= dict.fromkeys(_untaught_words(text))
        if untaught:
            messages.append(f"the model {request.model} does not know: {', '.join(untaught)}.")
    for entry in entries:
        if not is_embedded:
            messages.append(f"{entry}.")
        elif entry.cut:
            # Its unknown words are in the line above.
            messages.append(f"{replace(entry, unknown=())}.")
    return messages


@contextmanager
def library_warnings_off() -> Iterator[None]:
    """Keep the library from repeating the warnings of `unread_messages`."""
    from vsf.families.base.unread import UnreadWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnreadWarning)
        yield


def _untaught_words(text: str) -> Iterator[str]:
    """Yield words, numbers and symbols that the embedded models were never taught; punctuation does not count."""
    taught = tiny.vocabulary()
    # Grouped by kind of character, so that words of any script and emoji are split without spaces between them.
    for category, characters in groupby(text, key=lambda character: unicodedata.category(character)[0]):
        word = "".join(characters)
        if category in "LNS" and word.lower() not in taught:  # letters, numbers, symbols
            yield word


def note_unseen(result: Result, file: str) -> None:
    """Print the negatives that a picture never looked at, so that no one trusts a run without effect."""
    from vsf.generation import report

    for text in report.unseen(result):
        console.note(f'{file}: the negative "{text}" never got attention, so it changed nothing.')


def verdict(model: str, result: Result, negatives: str) -> str:
    """Return the description of a picture by the judge of the embedded models; "" for models that it cannot read."""
    if model not in tiny.MODELS:
        return ""
    from vsf.judges.scenes.judge import describe

    return describe(result.image, negatives)


def sentences(picture: Path, report: Mapping[str, Any]) -> list[str]:
    """Format the report of a picture, as `vsf.generation.report` writes it, in lines for people."""
    lines = [report["summary"], f"all figures: {report_files(picture, 0)[0].name}"]
    for negative in report["negatives"]:
        # Three answers: None stands for a negative of which nothing was observed.
        if negative["seen"] is None:
            effect = "what it did could not be observed"
        elif negative["seen"]:
            effect = f"{negative['mean_mass']:.2%} of the attention, where: {negative['heat_map']}"
        else:
            effect = "NEVER GOT ATTENTION"
        lines.append(f"{negative['text']}: {effect}")
    return lines
