"""Find prompt pairs that are too similar to be in one suite."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from vsf.bench.suites.load import Pair

WORDS = 0.25
TRIPLES = 0.12
"""Prompts are near-duplicates above these Jaccard indices of their longer words, or of their runs of three words."""

_LONGER = 4  # letters; shorter words say little about what a prompt shows


@dataclass(frozen=True)
class _Fingerprint:
    """The features by which pairs are compared."""

    pair: Pair
    words: frozenset[str]
    triples: frozenset[str]
    subject: tuple[str, str] | None

    @classmethod
    def of(cls, pair: Pair) -> _Fingerprint:
        name = pair.about.get("object")
        subject = (name.lower(), pair.negative.lower()) if name else None
        return cls(pair, longer_words(pair.prompt), triples(pair.prompt), subject)


class NearDuplicates:
    """The pairs of a suite so far, with a search for those that a new pair repeats."""

    def __init__(self, pairs: Iterable[Pair] = ()) -> None:
        self._fingerprints: list[_Fingerprint] = []
        for pair in pairs:
            self.add(pair)

    def add(self, pair: Pair) -> None:
        """Add a pair to the suite."""
        self._fingerprints.append(_Fingerprint.of(pair))

    def find(self, pair: Pair) -> Pair | None:
        """Return a pair that removes the same part from the same object, or has nearly the same prompt; else None."""
        new = _Fingerprint.of(pair)
        for earlier in self._fingerprints:
            if new.subject is not None and new.subject == earlier.subject:
                return earlier.pair
            if jaccard(new.words, earlier.words) > WORDS or jaccard(new.triples, earlier.triples) > TRIPLES:
                return earlier.pair
        return None


def jaccard(first: frozenset[str], second: frozenset[str]) -> float:
    """Return the Jaccard index of two sets, |A∩B| / |A∪B|; 0 if both are empty."""
    union = first | second
    return len(first & second) / len(union) if union else 0.0


def longer_words(text: str) -> frozenset[str]:
    """Return the words of a text that have four letters or more."""
    return frozenset(word for word in _words(text) if len(word) >= _LONGER)


def triples(text: str) -> frozenset[str]:
    """Return the runs of three words of a text."""
    words = _words(text)
    return frozenset(" ".join(words[start : start + 3]) for start in range(len(words) - 2))


def named(negative: str, prompt: str) -> str | None:
    """Return the first word of a negative prompt, of three letters or more, that the prompt contains too.

    Singular and plural are the same word, and a longer word of the prompt counts if it begins with the word.
    """
    prompt_words = _words(prompt)
    for word in _words(negative):
        if len(word) < 3:
            continue
        stem = _singular(word)
        for prompt_word in prompt_words:
            is_named = prompt_word.startswith(stem) if len(stem) >= _LONGER else _singular(prompt_word) == stem
            if is_named:
                return word
    return None


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _singular(word: str) -> str:
    return word.removesuffix("s") if len(word) >= _LONGER and not word.endswith("ss") else word
