"""Files of prompts: text with one a line, JSON Lines, or one JSON list."""

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
    """Read a file in UTF-8 whose suffix says what it is; blank lines are left out.

    In a .txt file each line is a prompt. A .jsonl file has a JSON value on each line, a .json file a list of such
    values: a prompt as text, or an object with `prompt` and, if wanted, `negative` (a text, a list of texts, or weights
    by text). Prompts are in the inline spelling of `Prompt.parse`, negatives in that of the flag --negative.

    Raises:
        PromptError: the file cannot be read or holds no prompt, or an entry is none; it says which.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise PromptError(f'cannot read the prompt file "{file}": {getattr(error, "strerror", error)}.') from error
    prompts = []
    for place, entry in _entries(file, text):
        try:
            prompts.append(_prompt(entry))
        except PromptError as error:
            raise PromptError(f'"{file}", {place}: {error}') from error
    if not prompts:
        raise PromptError(f'the prompt file "{file}" holds no prompt; write one a line, such as: a red car on snow')
    return prompts


def _entries(file: Path, text: str) -> Iterator[tuple[str, Any]]:
    """Yield what stands in the file, each entry with its place."""
    kind = file.suffix.lower()
    if kind == ".json":
        entries = _json(text, f'"{file}"')
        if not isinstance(entries, list):
            raise PromptError(f'"{file}" has to hold a list, such as ["a red car", {{"prompt": "a red car"}}]')
        yield from ((f"entry {number}", entry) for number, entry in enumerate(entries, 1))
        return
    if kind not in (".txt", ".jsonl"):
        raise PromptError(f'a prompt file ends in .txt, .jsonl or .json, got "{file}"')
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield f"line {number}", line.strip() if kind == ".txt" else _json(line, f'"{file}", line {number}')


def _json(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise PromptError(f"{place}: not valid JSON: {error.msg}, line {error.lineno}, column {error.colno}") from error
    except (ValueError, RecursionError) as error:
        raise PromptError(f"{place}: not valid JSON: {error}") from error


def _prompt(entry: Any) -> Prompt:
    """Turn one entry into a prompt."""
    fields = {"prompt": entry} if isinstance(entry, str) else entry
    if not isinstance(fields, dict) or not isinstance(fields.get("prompt"), str):
        raise PromptError(f'expected an object like {{"prompt": "a red car", "negative": "wheels"}}, got {entry!r}')
    if unknown := next((name for name in fields if name not in FIELDS), None):
        raise PromptError(f'unknown field "{unknown}"; known are {", ".join(FIELDS)}')
    negative = parse_negatives(fields.get("negative") or "")
    return Prompt.parse(fields["prompt"], {negative: 1.0} if isinstance(negative, str) else negative)
