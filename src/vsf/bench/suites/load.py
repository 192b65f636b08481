"""Load suites of prompt pairs, shipped with the package or brought by a user."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from vsf.errors import RequestError

__all__ = ["Card", "Entry", "Pair", "cards", "load", "names", "numbered", "shipped"]

_SHIPPED = Path(__file__).with_name("shipped")


@dataclass(frozen=True)
class Pair:
    """A prompt, a negative prompt, and two yes-or-no questions about the image, both of which should be answered yes.

    Attributes:
        id: Unique in its suite.
        prompt: Describes the image.
        negative: Names the unwanted part.
        question_positive: Asks whether the object is there.
        question_negative: Asks whether the unwanted part is missing.
        about: Further facts, such as the "object", its "part", or the "kind" by which a report groups pairs.
    """

    id: str
    prompt: str
    negative: str
    question_positive: str
    question_negative: str
    about: Mapping[str, str] = field(default_factory=dict)


class Entry(BaseModel):
    """A pair as it is written in a file: with our field names, or those of the paper's authors, who give no ids."""

    model_config = ConfigDict(frozen=True, str_strip_whitespace=True, coerce_numbers_to_str=True)

    id: str = ""
    prompt: str = Field(min_length=1)
    negative: str = Field(min_length=1, validation_alias=AliasChoices("negative", "missing_element"))
    question_positive: str = Field(min_length=1, validation_alias=AliasChoices("question_positive", "question_1"))
    question_negative: str = Field(min_length=1, validation_alias=AliasChoices("question_negative", "question_2"))
    about: dict[str, str] = {}

    def pair(self, default_id: str) -> Pair:
        """Make the pair, with `default_id` if the file gives none."""
        return Pair(**{**dict(self), "id": self.id or default_id})


class Card(BaseModel):
    """The card of a shipped suite.

    Attributes:
        about: What it holds, in a sentence.
        origin: Where its pairs come from.
        licence: Of the pairs.
        version: Changes with the pairs.
        sha256: Of its file in this version.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    about: str
    origin: str
    licence: str
    version: str
    sha256: str


def cards() -> dict[str, Card]:
    """Read the cards of the shipped suites by name."""
    document = tomllib.loads((_SHIPPED / "cards.toml").read_text(encoding="utf-8"))
    return {name: Card(**fields) for name, fields in document.items()}


def names() -> list[str]:
    """List the suites that are shipped with the package."""
    return sorted(file.stem for file in _SHIPPED.glob("*.jsonl"))


def shipped(name: str) -> Path:
    """Return the file of a shipped suite. Raises RequestError for an unknown name."""
    if name not in names():
        raise RequestError(f'there is no suite and no file "{name}"; the suites are {", ".join(names())}.')
    return _SHIPPED / f"{name}.jsonl"


def load(suite: str | Path) -> list[Pair]:
    """Load the pairs of a shipped suite by name, or of a file: JSON lines, or one JSON list of objects.

    Raises:
        RequestError: No such suite or file, an entry that lacks a field, two pairs with the same id, or no pairs.
    """
    file = Path(suite)
    if str(suite) in names() or not file.is_file():
        file = shipped(str(suite))
    try:
        text = file.read_text(encoding="utf-8-sig")  # editors on Windows put a byte order mark first
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f'cannot read the suite "{file}": {error}.') from error
    entries = _from_list(text, file) if text.lstrip().startswith("[") else _from_lines(text, file)
    if not entries:
        raise RequestError(f'the suite "{file}" is empty.')
    pairs = numbered(entries, file)
    counts = Counter(pair.id for pair in pairs)
    repeated = [pair_id for pair_id, count in counts.items() if count > 1]
    if repeated:
        raise RequestError(f'ids have to differ, but the suite "{file}" has "{repeated[0]}" more than once.')
    return pairs


def numbered(entries: Iterable[Entry], file: Path) -> list[Pair]:
    """Make the pairs of a suite; one without an id gets the name of the file and its own number, from 1."""
    return [entry.pair(f"{file.stem}-{number:03d}") for number, entry in enumerate(entries, 1)]


def _from_lines(text: str, file: Path) -> list[Entry]:
    entries = []
    # Not splitlines, which would also split at separators such as U+2028 that JSON allows within a string.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                entries.append(Entry.model_validate_json(line))
            except ValidationError as error:
                problem = _first_problem(error)
                raise RequestError(f'line {number} of the suite "{file}" is no pair: {problem}.') from error
    return entries


def _from_list(text: str, file: Path) -> list[Entry]:
    try:
        return TypeAdapter(list[Entry]).validate_json(text)
    except ValidationError as error:
        raise RequestError(f'the suite "{file}" is not valid: {_first_problem(error)}.') from error


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    location = ".".join(map(str, problem["loc"]))
    return f"{location}: {problem['msg']}" if location else problem["msg"]
