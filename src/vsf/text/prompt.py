"""Prompts: the text to draw and the texts to leave out, with weights, and the inline spelling of both."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from math import copysign

from vsf.errors import PromptError

BRACKET = 1.1
"""The factor of one pair of brackets without a number, as in A1111 and ComfyUI."""

LARGEST_WEIGHT = 10.0
"""The largest weight, as large as the scale of a method may be."""

# Tried in this order, so that an escaped bracket never opens or closes anything.
_TOKEN = re.compile(
    r"\\(?P<escaped>[()\[\]\\])"
    r"|(?P<open>\()"
    r"|(?P<close>(?::(?P<tail>[^():\\]*))?\))"
    r"|(?P<text>[^():\\]+|[:\\])"
)


_NUMERIC = " +-.,0123456789"
"""Characters of numbers, well-formed or not."""


@dataclass(frozen=True, slots=True)
class Emphasis:
    """The weight of characters `start` up to, not including, `stop` of a positive text; 0 hides them from the image."""

    start: int
    stop: int
    weight: float


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt: the text to draw, and the texts to leave out with their weights.

    Both texts are plain here; `Prompt.parse` reads the inline spelling and `str` writes it. The fields are normalised,
    so that prompts which mean the same are equal: a negative is stripped, equal negatives add up, one that is blank or
    weighs 0 is absent; emphases are sorted and do not overlap (overlapping ones multiply, as nested brackets do), and
    none weighs 1.

    Args:
        positive: the text to draw; may be empty.
        negatives: weight of each text to leave out, 0 to 10.
        emphasis: weights of parts of the positive text, 0 to 10.

    Raises:
        PromptError: a weight, a range or a type is not as described above.
    """

    positive: str
    negatives: Mapping[str, float] = field(default_factory=dict, hash=False)
    emphasis: tuple[Emphasis, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.positive, str):
            raise PromptError(f"a prompt has to be text, got {self.positive!r}")
        if not isinstance(self.negatives, Mapping):
            raise PromptError(f'negatives have to be like {{"wheels": 1.0}}, text and weight, got {self.negatives!r}')
        # One weight per character, so that overlapping emphases multiply where they overlap.
        weights = [1.0] * len(self.positive)
        for part in self.emphasis:
            if not 0 <= part.start < part.stop <= len(weights):
                raise PromptError(f"{part} does not lie within the {len(weights)} characters of the positive text")
            weight = _checked(part.weight, f'the weight of "{self.positive[part.start : part.stop]}"')
            for character in range(part.start, part.stop):
                weights[character] *= weight
        object.__setattr__(self, "negatives", _added_up(self.negatives.items()))
        object.__setattr__(self, "emphasis", _emphases(weights))

    @classmethod
    def parse(cls, written: str, negatives: Mapping[str, float] | None = None) -> "Prompt":
        r"""Parse the inline spelling of A1111 and ComfyUI.

        `(hat:1.3)` weighs a word or phrase, `(hat)` is short for `(hat:1.1)`, nested weights multiply (as in A1111; in
        ComfyUI the innermost number stands alone). `(wheels:-1.2)` takes the words out of the positive text and makes
        them a negative of weight 1.2, which brackets around it multiply too; it may hold no brackets of its own. Where
        its removal leaves two spaces, a space before a comma or two commas, one of them is removed too.

        `\(` `\)` `\[` `\]` `\\` stand for the character. As in both hosts, these are text: any other backslash, a `)`
        that closes nothing (smileys), and a colon followed by several words, such as `(16:9 format)`. So is syntax
        that only one of the hosts reads: `[` `]` (A1111: a weight of 1/1.1; write `(hat:0.9)`) and the word BREAK.

        Args:
            written: the prompt in the inline spelling.
            negatives: further negatives, {text: weight}, added to those in the text.

        Raises:
            PromptError: a `(` is never closed (A1111 weighs the rest, ComfyUI keeps the bracket), brackets hold no
                text, a single word or nothing stands where a weight belongs (`(hat:big)`, `(hat:1,3)`, `(hat:)`), a
                weight is beyond 10, or a negative holds brackets. The message says where.
        """
        chars: list[str] = []
        weights: list[float] = []  # of each character
        gaps: set[int] = set()  # where a negative was taken out
        inline_negatives: list[tuple[str, float]] = []
        for text, weight in _pieces(written):
            if _is_negative(weight):
                inline_negatives.append((text, -weight))
                gaps.add(len(chars))
            else:
                chars += text
                weights += [weight] * len(text)
        for gap in sorted(gaps, reverse=True):  # from the last, so that the positions of those before still hold
            before, after = _superfluous("".join(chars), gap)
            del chars[gap - before : gap + after]
            del weights[gap - before : gap + after]
        further_negatives = cls("", negatives or {}).negatives.items()
        return cls(
            positive="".join(chars),
            negatives=_added_up([*inline_negatives, *further_negatives]),
            emphasis=_emphases(weights),
        )

    def __str__(self) -> str:
        """Write the inline spelling; `Prompt.parse` turns it into an equal prompt."""
        positive = ""
        at = 0
        for part in self.emphasis:
            positive += _escaped(self.positive[at : part.start])
            positive += f"({_escaped(self.positive[part.start : part.stop])}:{part.weight})"
            at = part.stop
        positive += _escaped(self.positive[at:])
        negatives = [f"({_escaped(text)}:-{weight})" for text, weight in self.negatives.items()]
        return " ".join([positive, *negatives] if positive else negatives)


@dataclass(slots=True)
class _Group:
    """A pair of brackets, opened at character `at`, and the weighted pieces of text in it so far."""

    at: int
    pieces: list[tuple[str, float]] = field(default_factory=list)
    nested: bool = False

    @property
    def text(self) -> str:
        """The text between the brackets."""
        return "".join(text for text, _ in self.pieces)

    @property
    def holds_words(self) -> bool:
        """True if the brackets hold anything that can have a weight; those of `(:D)` do not."""
        return bool(self.text.strip())

    def weighted(self, weight: float, written: str) -> list[tuple[str, float]]:
        """Return the pieces with their weights multiplied by that of the brackets; a negative becomes one piece."""
        text = self.text
        # Brackets around spaces alone are legal, but not as a negative, which is stripped.
        needed = text.strip() if _is_negative(weight) else text
        if not needed:
            raise _fault(written, self.at, r'these brackets hold no text; fill them, or write "\(" and "\)" for text')
        if not _is_negative(weight):
            weighted = []
            for piece, weight_of_piece in self.pieces:
                weighted.append((piece, weight_of_piece * weight))
            return weighted
        if self.nested:
            raise _fault(written, self.at, r'a negative holds no brackets of its own; write "\(" and "\)" for text')
        return [(text, weight)]


def _pieces(written: str) -> list[tuple[str, float]]:
    """Resolve the brackets into (text, weight) pieces in order; the sign bit of the weight marks a negative."""
    outermost = _Group(at=0)
    open_groups = [outermost]
    for token in _TOKEN.finditer(written):
        if token["open"]:
            open_groups[-1].nested = True
            open_groups.append(_Group(at=token.start()))
        elif token["close"] and len(open_groups) > 1:
            group = open_groups.pop()
            weight = _weight(token["tail"], written, token.start(), of_words=group.holds_words)
            if weight is None:  # no weight, so the colon and what follows it are text in brackets without a number
                group.pieces.append((token[0][:-1], 1.0))
            open_groups[-1].pieces += group.weighted(BRACKET if weight is None else weight, written)
        else:
            open_groups[-1].pieces.append((token["escaped"] or token[0], 1.0))
    if open_groups[-1] is not outermost:
        raise _fault(written, open_groups[-1].at, r'this bracket is never closed; add ")", or write "\(" for text')
    return outermost.pieces


def _weight(tail: str | None, written: str, at: int, *, of_words: bool) -> float | None:
    """Read the text between the last colon and the closing bracket as a weight; None where it is ordinary text."""
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
    problem = f'"{tail.strip()}" is no weight' if tail.strip() else "a weight is missing"
    advice = r'write a number such as 1.3, -1 to leave the words out, or "\(" and "\)" for brackets that are text'
    return f"{problem}; {advice}"


def _superfluous(text: str, gap: int) -> tuple[int, int]:
    """Count the characters before and after a gap that are superfluous once the negative there is gone.

    Of a list the comma of the removed entry goes, elsewhere one of the two spaces around it.
    """
    before = text[:gap]
    after = text[gap:]
    tidy_before = before
    tidy_after = after.lstrip()
    if tidy_after.startswith(","):
        tidy_before = before.rstrip()
        if not tidy_before:
            tidy_after = tidy_after[1:].lstrip()  # the first entry of a list
        elif tidy_before.endswith(","):
            tidy_after = tidy_after[1:]
    elif before and not before[-1].isspace():
        tidy_after = after  # a word ends right before the gap: the space behind it is the only one
    elif not tidy_after:
        tidy_before = before[:-1]  # at the end of the text
    return len(before) - len(tidy_before), len(after) - len(tidy_after)


def _emphases(weights: list[float]) -> tuple[Emphasis, ...]:
    """Gather the weights of characters into runs, leaving out those that weigh 1."""
    runs = []
    start = 0
    for weight, run in groupby(weights):
        stop = start + len(list(run))
        if weight != 1:
            runs.append(Emphasis(start, stop, _checked(weight, "the product of nested weights")))
        start = stop
    return tuple(runs)


def _added_up(negatives: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Strip the texts and add the weights of equal ones; a blank text or a weight of 0 is left out."""
    total: dict[str, float] = {}
    for text, weight in negatives:
        if not isinstance(text, str):
            raise PromptError(f"a negative has to be text, got {text!r}")
        label = f'the weight of the negative "{text}"'
        stripped = text.strip()
        total[stripped] = _checked(total.get(stripped, 0.0) + _checked(weight, label), label)
    return {text: weight for text, weight in total.items() if text and weight}


def _checked(weight: object, label: str) -> float:
    """Return a weight as a float without a sign, so that -0 is 0; `label` names it in the error."""
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight <= LARGEST_WEIGHT:
        raise PromptError(f"{label} has to be a number from 0 to {LARGEST_WEIGHT:g}, got {weight!r}")
    return abs(float(weight))


def _is_negative(weight: float) -> bool:
    """Tell a negative by the sign bit: `(hat:-0)` is one too, of weight 0 and so absent."""
    return copysign(1.0, weight) < 0


def _escaped(text: str) -> str:
    return re.sub(r"([()\\])", r"\\\1", text)


def _fault(written: str, at: int, problem: str) -> PromptError:
    return PromptError(f'at character {at + 1} of the prompt, "{written[at : at + 24]}": {problem}')
