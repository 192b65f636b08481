"""Prompt files: plain text with one prompt per line, JSON Lines, or a JSON list."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vsf.errors import PromptError
from vsf.generation.negatives import parse_negatives
from vsf.text.prompt import Prompt

FIELDS = ("prompt", "negative")


def read(file: Path) -> list[Prompt]:
    """Read a UTF-8 prompt file in the format that its suffix names, skipping blank lines.

    A .txt file holds one prompt per line, a .jsonl file one JSON value per line, a .json file a list of such values: a
    prompt as text, or an object with `prompt` and optionally `negative` (a text, a list of texts, or weights by text).
    Prompts use the inline spelling of `Prompt.parse`, negatives that of the flag --negative.

    Raises:
        PromptError: the file cannot be read or holds no prompt, or an entry is invalid; the message says which.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise PromptError(f'cannot read the prompt file "{file}": {getattr(error, "strerror", error)}.') from error
    prompts = []
    for position, entry in _entries(file, text):
        try:
            prompts.append(_prompt(entry))
        except PromptError as error:
            raise PromptError(f'"{file}", {position}: {error}') from error
    if not prompts:
        raise PromptError(f'the prompt file "{file}" holds no prompt; write one a line, such as: a red car on snow')
    return prompts


def _entries(file: Path, text: str) -> Iterator[tuple[str, Any]]:
    """Yield the position of each entry, such as "line 3", and its value."""
    suffix = file.suffix.lower()
    if suffix == ".json":
        entries = _json(text, f'"{file}"')
        if not isinstance(entries, list):
            raise PromptError(f'"{file}" has to hold a list, such as ["a red car", {{"prompt": "a red car"}}]')
        for number, entry in enumerate(entries, 1):
            yield f"entry {number}", entry
        return
    if suffix not in (".txt", ".jsonl"):
        raise PromptError(f'a prompt file ends in .txt, .jsonl or .json, got "{file}"')
    # Not splitlines(), which also splits at U+2028.
    for number, line in enumerate(text.split("\n"), 1):
        position = f"line {number}"
        if line.strip():
            yield position, line.strip() if suffix == ".txt" else _json(line, f'"{file}", {position}')


def _json(text: str, position: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        reason = f"{error.msg}, line {error.lineno}, column {error.colno}"
        raise PromptError(f"{position}: not valid JSON: {reason}") from error
    except (ValueError, RecursionError) as error:
        raise PromptError(f"{position}: not valid JSON: {error}") from error


def _prompt(entry: object) -> Prompt:
    """Build a prompt from one entry of a file."""
    fields = {"prompt": entry} if isinstance(entry, str) else entry
    if not isinstance(fields, dict) or not isinstance(fields.get("prompt"), str):
        raise PromptError(f'expected an object like {{"prompt": "a red car", "negative": "wheels"}}, got {entry!r}')
    for name in fields:
        if name not in FIELDS:
            raise PromptError(f'unknown field "{name}"; known are {", ".join(FIELDS)}')
    negative = parse_negatives(fields.get("negative") or "")
    return Prompt.parse(fields["prompt"], {negative: 1.0} if isinstance(negative, str) else negative)
