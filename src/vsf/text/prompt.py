"""What to draw and what to leave out: prompts with weights, their inline spelling, and files of prompts."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from math import copysign
from os import PathLike
from pathlib import Path
from typing import Any

from vsf.errors import PromptError

BRACKET = 1.1
"""What one pair of brackets without a number multiplies a weight by, in A1111 and in ComfyUI."""

LARGEST_WEIGHT = 10.0
"""What a weight may be at most, as the scale of a method may."""

_TOKEN = re.compile(
    r"\\(?P<escaped>[()\[\]\\])"
    r"|(?P<open>\()"
    r"|(?P<close>(?::(?P<tail>[^():\\]*))?\))"
    r"|(?P<text>[^():\\]+|[:\\])"
)


_NUMERIC = " +-.,0123456789"
"""Characters of numbers, well or badly written."""


@dataclass(frozen=True, slots=True)
class Emphasis:
    """Characters `start` to `stop` (left out) of a positive text weigh `weight`; 0 hides them from the image."""

    start: int
    stop: int
    weight: float


@dataclass(frozen=True, slots=True)
class Prompt:
    """What to draw, and what to leave out and how strongly.

    Both texts are plain here; `Prompt.parse` reads the inline spelling and `str` writes it. What comes in is brought to
    one form, so that prompts which mean the same are equal: a negative is stripped, equal negatives add up, one that is
    blank or weighs 0 is absent; emphases are sorted and do not overlap (overlapping ones multiply, as nested brackets
    do), and none weighs 1.

    Args:
        positive: what to draw; may be empty.
        negatives: weight of each text to leave out, 0 to 10.
        emphasis: weights of parts of the positive text, 0 to 10.

    Raises:
        PromptError: a weight, a range or a type is not as described.
    """

    positive: str
    negatives: Mapping[str, float] = field(default_factory=dict, hash=False)
    emphasis: tuple[Emphasis, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.positive, str):
            raise PromptError(f"a prompt has to be text, got {self.positive!r}")
        if not isinstance(self.negatives, Mapping):
            raise PromptError(f'negatives have to be like {{"wheels": 1.0}}, text and weight, got {self.negatives!r}')
        weights = [1.0] * len(self.positive)
        for part in self.emphasis:
            if not 0 <= part.start < part.stop <= len(weights):
                raise PromptError(f"{part} does not lie within the {len(weights)} characters of the positive text")
            weight = _checked(part.weight, f'the weight of "{self.positive[part.start : part.stop]}"')
            weights[part.start : part.stop] = [before * weight for before in weights[part.start : part.stop]]
        object.__setattr__(self, "negatives", _added_up(self.negatives.items()))
        object.__setattr__(self, "emphasis", _emphases(weights))

    @classmethod
    def parse(cls, written: str, negatives: Mapping[str, float] | None = None) -> "Prompt":
        r"""Read the inline spelling of A1111 and ComfyUI, and add further `negatives` to those found there.

        `(hat:1.3)` weighs a word or phrase, `(hat)` is short for `(hat:1.1)`, nested weights multiply (as in A1111; in
        ComfyUI the innermost number stands alone). `(wheels:-1.2)` takes the words out of the positive text and makes
        them a negative of weight 1.2, which brackets around it multiply too; it may hold no brackets of its own. Where
        it leaves two spaces, a space before a comma or two commas, one goes.

        `\(` `\)` `\[` `\]` `\\` stand for the character. Text are, as in both hosts: any other backslash, a `)` that
        closes nothing (smileys), and a colon that several words follow, such as `(16:9 format)`. Text is also what only
        one of them reads: `[` `]` (A1111: a weight of 1/1.1; write `(hat:0.9)`) and the word BREAK.

        Raises:
            PromptError: a `(` that is never closed (A1111 weighs the rest, ComfyUI keeps the bracket), brackets without
                text, a single word or nothing where a weight belongs (`(hat:big)`, `(hat:1,3)`, `(hat:)`), a weight
                beyond 10, or brackets inside a negative. It says where.
        """
        chars: list[tuple[str, float]] = []
        gaps: set[int] = set()
        inline: list[tuple[str, float]] = []
        for text, weight in _pieces(written):
            if _is_negative(weight):
                inline.append((text, -weight))
                gaps.add(len(chars))
            else:
                chars += [(char, weight) for char in text]
        for gap in sorted(gaps, reverse=True):
            before, after = _left_over("".join(char for char, _ in chars), gap)
            del chars[gap - before : gap + after]
        return cls(
            positive="".join(char for char, _ in chars),
            negatives=_added_up([*inline, *cls("", negatives or {}).negatives.items()]),
            emphasis=_emphases([weight for _, weight in chars]),
        )

    def __str__(self) -> str:
        """Write the inline spelling; `Prompt.parse` turns it into an equal prompt."""
        positive, at = "", 0
        for part in self.emphasis:
            positive += _escaped(self.positive[at : part.start])
            positive += f"({_escaped(self.positive[part.start : part.stop])}:{part.weight})"
            at = part.stop
        positive += _escaped(self.positive[at:])
        negatives = [f"({_escaped(text)}:-{weight})" for text, weight in self.negatives.items()]
        return " ".join([positive, *negatives] if positive else negatives)


def read_prompts(path: str | PathLike[str]) -> list[Prompt]:
    """Read a JSONL file (UTF-8): one object per line, blank lines skipped.

    `prompt` is text in the inline spelling of `Prompt.parse`; `negative`, which may be left out, is plain text (one
    negative of weight 1), a list of such texts, or {text: weight}. Negatives of both fields add up.

    Raises:
        PromptError: the file cannot be read or holds no prompt, or a line is not as described; it names file and line.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise PromptError(f'cannot read the prompt file "{path}": {getattr(error, "strerror", error)}') from error
    prompts = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            prompts.append(_from_entry(json.loads(line)))
        except json.JSONDecodeError as error:
            raise PromptError(f'"{path}", line {number}: not valid JSON: {error.msg}, column {error.colno}') from error
        except PromptError as error:
            raise PromptError(f'"{path}", line {number}: {error}') from error
    if not prompts:
        raise PromptError(f'the prompt file "{path}" holds no prompt; write one {{"prompt": "a red car"}} per line')
    return prompts


def _from_entry(entry: Any) -> Prompt:
    """Turn one line of a prompt file into a prompt."""
    if not isinstance(entry, dict) or not isinstance(entry.get("prompt"), str):
        raise PromptError(f'expected an object like {{"prompt": "a red car", "negative": "wheels"}}, got {entry!r}')
    for name in entry:
        if name not in ("prompt", "negative"):
            raise PromptError(f'unknown field "{name}". Known: prompt, negative')
    negative = entry.get("negative")
    if isinstance(negative, str):
        negative = [negative]
    if isinstance(negative, list):
        negative = _added_up((text, 1.0) for text in negative)
    if not isinstance(negative, dict | None):
        raise PromptError(f'"negative" has to be text, a list of texts or {{text: weight}}, got {negative!r}')
    prompt = Prompt.parse(entry["prompt"], negative)
    if not prompt.positive.strip():
        raise PromptError("the prompt is empty; say what to draw")
    return prompt


@dataclass(slots=True)
class _Group:
    """A pair of brackets, opened at character `at`, and the weighted pieces of text in it so far."""

    at: int
    pieces: list[tuple[str, float]] = field(default_factory=list)
    nested: bool = False

    @property
    def holds_words(self) -> bool:
        """Whether there is something that can have a weight; in `(:D)` there is not."""
        return any(text.strip() for text, _ in self.pieces)

    def weighted(self, weight: float, written: str) -> list[tuple[str, float]]:
        """Return the pieces with their weights multiplied; a negative is one piece."""
        text = "".join(text for text, _ in self.pieces)
        if not (text.strip() if _is_negative(weight) else text):
            raise _fault(written, self.at, r'these brackets hold no text; fill them, or write "\(" and "\)" for text')
        if not _is_negative(weight):
            return [(text, before * weight) for text, before in self.pieces]
        if self.nested:
            raise _fault(written, self.at, r'a negative holds no brackets of its own; write "\(" and "\)" for text')
        return [(text, weight)]


def _pieces(written: str) -> list[tuple[str, float]]:
    """Take the brackets off: (text, weight) in order, the sign bit of the weight set where it is a negative."""
    whole = _Group(at=0)
    open_groups = [whole]
    for token in _TOKEN.finditer(written):
        if token["open"]:
            open_groups[-1].nested = True
            open_groups.append(_Group(at=token.start()))
        elif token["close"] and len(open_groups) > 1:
            group = open_groups.pop()
            weight = _weight(token["tail"], written, token.start(), of_words=group.holds_words)
            if weight is None:
                group.pieces.append((token[0][:-1], 1.0))
            open_groups[-1].pieces += group.weighted(BRACKET if weight is None else weight, written)
        else:
            open_groups[-1].pieces.append((token["escaped"] or token[0], 1.0))
    if open_groups[-1] is not whole:
        raise _fault(written, open_groups[-1].at, r'this bracket is never closed; add ")", or write "\(" for text')
    return whole.pieces


def _weight(tail: str | None, written: str, at: int, *, of_words: bool) -> float | None:
    """Read what stands between the last colon and the closing bracket; None where it is no weight but text."""
    if tail is None:
        return None
    try:
        weight = float(tail)
    except ValueError:
        is_prose = len(tail.split()) > 1 and tail.strip(_NUMERIC)
        if is_prose or not of_words:
            return None
        raise _fault(written, at, _no_weight(tail)) from None
    if not abs(weight) <= LARGEST_WEIGHT:
        raise _fault(written, at, f'"{tail}" is no weight; write a number up to {LARGEST_WEIGHT:g}')
    return weight


def _no_weight(tail: str) -> str:
    found = f'"{tail.strip()}" is no weight' if tail.strip() else "a weight is missing"
    text = r'write a number such as 1.3, -1 to leave the words out, or "\(" and "\)" for brackets that are text'
    return f"{found}; {text}"


def _left_over(text: str, gap: int) -> tuple[int, int]:
    """Count the characters before and after a gap that have no use once the negative there is gone."""
    left, right = text[:gap], text[gap:]
    kept, rest = left, right.lstrip()
    if rest.startswith(","):
        kept = left.rstrip()
        if not kept:
            rest = rest[1:].lstrip()
        elif kept.endswith(","):
            rest = rest[1:]
    elif left and not left[-1].isspace():
        rest = right
    elif not rest:
        kept = left[:-1]
    return len(left) - len(kept), len(right) - len(rest)


def _emphases(weights: list[float]) -> tuple[Emphasis, ...]:
    """Gather the weights of characters into runs, leaving out those that weigh 1."""
    runs, start = [], 0
    for weight, run in groupby(weights):
        stop = start + len(list(run))
        if weight != 1:
            runs.append(Emphasis(start, stop, _checked(weight, "the product of nested weights")))
        start = stop
    return tuple(runs)


def _added_up(negatives: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Strip the texts and add the weights of equal ones; what is blank or weighs 0 is absent."""
    total: dict[str, float] = {}
    for text, weight in negatives:
        if not isinstance(text, str):
            raise PromptError(f"a negative has to be text, got {text!r}")
        what = f'the weight of the negative "{text}"'
        total[text.strip()] = _checked(total.get(text.strip(), 0.0) + _checked(weight, what), what)
    return {text: weight for text, weight in total.items() if text and weight}


def _checked(weight: Any, what: str) -> float:
    """Return a weight as a float without a sign, so that -0 is 0."""
    number = isinstance(weight, int | float) and not isinstance(weight, bool)
    if not number or not 0 <= weight <= LARGEST_WEIGHT:
        raise PromptError(f"{what} has to be a number from 0 to {LARGEST_WEIGHT:g}, got {weight!r}")
    return abs(float(weight))


def _is_negative(weight: float) -> bool:
    """Tell by the sign bit: `(hat:-0)` is a negative too, one that is absent."""
    return copysign(1.0, weight) < 0


def _escaped(text: str) -> str:
    return re.sub(r"([()\\])", r"\\\1", text)


def _fault(written: str, at: int, what: str) -> PromptError:
    return PromptError(f'at character {at + 1} of the prompt, "{written[at : at + 24]}": {what}')
