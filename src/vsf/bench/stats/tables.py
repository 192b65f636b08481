"""Rows by setting and by image, and the scores of one column."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from statistics import fmean
from typing import Literal

from vsf.bench.run.rows import Score
from vsf.errors import RequestError

Key = tuple[str, int]
"""Pair and seed: what two settings have in common."""
Table = Mapping[Key, Score]
Column = Mapping[Key, float | None]
Metric = Literal["positive", "negative", "quality"]
METRICS: tuple[Metric, ...] = ("positive", "negative", "quality")


def by_label(scores: Iterable[Score]) -> dict[str, dict[Key, Score]]:
    """The rows of each setting. Raises RequestError when a setting has two rows of one pair and seed."""
    tables: dict[str, dict[Key, Score]] = {}
    for score in scores:
        table = tables.setdefault(score.label, {})
        if table.setdefault((score.pair, score.seed), score) is not score:
            raise RequestError(
                f'"{score.label}" has two rows of {score.pair} from seed {score.seed}: rows of different models need '
                "different labels, or folders of their own."
            )
    return tables


def column(table: Table, metric: Metric) -> dict[Key, float | None]:
    """One score of every image, as a number."""
    return {key: _number(getattr(score, metric)) for key, score in table.items()}


def per_pair(values: Column) -> dict[str, float]:
    """The mean over the scored images of each pair; pairs without any are left out."""
    groups: dict[str, list[float]] = {}
    for (pair, _), value in values.items():
        if value is not None:
            groups.setdefault(pair, []).append(value)
    return {pair: fmean(group) for pair, group in groups.items()}


def exact_mean(values: Column) -> Fraction | None:
    """Average the means of the pairs without rounding, so that a score can be compared with a bound; None if empty."""
    groups: dict[str, list[Fraction]] = {}
    for (pair, _), value in values.items():
        if value is not None:
            groups.setdefault(pair, []).append(Fraction(value))
    means = [sum(group, Fraction()) / len(group) for group in groups.values()]
    return sum(means, Fraction()) / len(means) if means else None


def curve(label: str) -> str:
    """The trade-off curve that a setting lies on: its label without the knobs that a sweep wrote behind it.

    "NAG scale=4 tau=2.5" lies on "NAG"; a label of one word is a curve of its own, whatever it says.
    """
    words = label.split()
    while len(words) > 1 and "=" in words[-1]:
        words.pop()
    return " ".join(words)


def curves(labels: Sequence[str]) -> dict[str, list[str]]:
    """The settings of each curve, in the order given."""
    groups: dict[str, list[str]] = {}
    for label in labels:
        groups.setdefault(curve(label), []).append(label)
    return groups


def _number(value: bool | float | None) -> float | None:
    return None if value is None else float(value)
