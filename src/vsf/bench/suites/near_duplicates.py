"""How alike two prompts are, and which pairs a suite may not hold because it has them already."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise

from vsf.bench.suites.load import Pair

WORDS, TRIPLES = 0.25, 0.12
"""Prompts that share more of their longer words, or of their runs of three words, are near-duplicates (Jaccard)."""

_LONGER = 4  # letters: shorter words say little about what a prompt shows


class Library:
    """The pairs so far, asked whether another one brings anything new."""

    def __init__(self, pairs: Iterable[Pair] = ()) -> None:
        self._known: list[tuple[Pair, frozenset[str], frozenset[str]]] = []
        for pair in pairs:
            self.add(pair)

    def add(self, pair: Pair) -> None:
        """Count a pair among those known."""
        self._known.append((pair, longer_words(pair.prompt), triples(pair.prompt)))

    def like(self, pair: Pair) -> Pair | None:
        """A known pair that asks the same part away from the same object, or whose prompt is a near-duplicate."""
        words, runs, subject = longer_words(pair.prompt), triples(pair.prompt), _subject(pair)
        for known, known_words, known_runs in self._known:
            if subject is not None and subject == _subject(known):
                return known
            if jaccard(words, known_words) > WORDS or jaccard(runs, known_runs) > TRIPLES:
                return known
        return None


def jaccard(first: frozenset[str], second: frozenset[str]) -> float:
    """The share that two sets have in common, 0 when both are empty."""
    either = first | second
    return len(first & second) / len(either) if either else 0.0


def longer_words(text: str) -> frozenset[str]:
    """The words of a text that have four letters or more."""
    return frozenset(word for word in _words(text) if len(word) >= _LONGER)


def triples(text: str) -> frozenset[str]:
    """The runs of three words of a text."""
    words = _words(text)
    twos = [f"{first} {second}" for first, second in pairwise(words)]
    return frozenset(f"{two} {third}" for two, third in zip(twos, words[2:], strict=False))


def named(negative: str, prompt: str) -> str | None:
    """The first word of the negative prompt, of three letters or more, that the prompt holds too.

    Singular and plural are one, and a prompt's longer word counts that begins with it.
    """
    for word in (word for word in _words(negative) if len(word) > 2):
        stem = _singular(word)
        if any(
            other.startswith(stem) if len(stem) >= _LONGER else _singular(other) == stem for other in _words(prompt)
        ):
            return word
    return None


def _subject(pair: Pair) -> tuple[str, str] | None:
    name = pair.about.get("object")
    return (name.lower(), pair.negative.lower()) if name else None


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _singular(word: str) -> str:
    return word.removesuffix("s") if len(word) >= _LONGER and not word.endswith("ss") else word
