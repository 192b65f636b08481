"""Pairs whose negative prompt names what the picture does not show: how much does a method change for nothing?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from vsf.bench.run.rows import HARMLESS
from vsf.bench.suites.load import Pair


def harmless(suite: Sequence[Pair], count: int) -> list[Pair]:
    """Give the first pairs of a suite a negative prompt of another pair that has nothing to do with them.

    That negative belongs to another object, no pair about the same object has it, and no word of it is in the prompt.
    The same suite always gives the same pairs, whatever their number.

    Args:
        suite: All of its pairs.
        count: Number of pairs to make.

    Returns:
        As many pairs, of the kind "harmless"; fewer where a suite has too few pairs or objects.
    """
    negatives_of: dict[str, set[str]] = {}
    for pair in suite:
        negatives_of.setdefault(_object(pair), set()).add(pair.negative)
    pairs = []
    for index, pair in enumerate(suite[:count]):
        for donor in [*suite[index + 1 :], *suite[:index]]:
            is_foreign = donor.negative not in negatives_of[_object(pair)] and _object(donor) != _object(pair)
            if is_foreign and not _words(donor.negative) & _words(pair.prompt):
                pairs.append(_with_negative_of(pair, donor))
                break
    return pairs


def _with_negative_of(pair: Pair, donor: Pair) -> Pair:
    about = {**pair.about, "kind": HARMLESS}
    if "part" in donor.about:
        about["part"] = donor.about["part"]
    return replace(
        pair,
        id=f"{pair.id}-harmless",
        negative=donor.negative,
        question_negative=f"Is nothing of this in the picture: {donor.negative}?",
        about=about,
    )


def _object(pair: Pair) -> str:
    return pair.about.get("object", pair.id)


def _words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text.lower()))
