"""Tables of scores by setting and by image, and their columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from statistics import fmean
from typing import Literal

from vsf.bench.run.rows import Score
from vsf.errors import RequestError

Key = tuple[str, str, int]
"""Pair, student and seed: identifies an image within a setting, and matches it across settings."""
Table = Mapping[Key, Score]
Column = Mapping[Key, float | None]
Metric = Literal["success", "positive", "negative", "damage", "quality", "change", "harmless"]
METRICS: tuple[Metric, ...] = ("success", "positive", "negative", "damage", "quality", "change", "harmless")
"""The headline first. Of `damage`, `change` and `harmless` less is better."""


def by_label(scores: Iterable[Score]) -> dict[str, dict[Key, Score]]:
    """Group scores into a table per setting. Raises RequestError if a setting has a pair and seed twice."""
    tables: dict[str, dict[Key, Score]] = {}
    for score in scores:
        row = score.row
        table = tables.setdefault(row.label, {})
        if table.setdefault((row.pair, score.student, row.seed), score) is not score:
            raise RequestError(
                f'"{row.label}" has two rows of {row.pair} from seed {row.seed}: rows of different models need '
                "different labels, or folders of their own."
            )
    return tables


def column(table: Table, metric: Metric) -> dict[Key, float | None]:
    """Return one score of every image, as a number; None if unscored."""
    return {key: _number(getattr(score, metric)) for key, score in table.items()}


def per_pair(values: Column) -> dict[str, float]:
    """Return the mean over the scored images of each pair; pairs without any are left out."""
    values_of_pair: dict[str, list[float]] = {}
    for (pair, _, _), value in values.items():
        if value is not None:
            values_of_pair.setdefault(pair, []).append(value)
    return {pair: fmean(pair_values) for pair, pair_values in values_of_pair.items()}


def exact_mean(values: Column) -> Fraction | None:
    """Return the mean over pairs without any rounding, so that it can be compared with a bound; None without values."""
    values_of_pair: dict[str, list[Fraction]] = {}
    for (pair, _, _), value in values.items():
        if value is not None:
            values_of_pair.setdefault(pair, []).append(Fraction(value))
    if not values_of_pair:
        return None
    total = Fraction()
    for pair_values in values_of_pair.values():
        total += sum(pair_values, Fraction()) / len(pair_values)
    return total / len(values_of_pair)


def curve(label: str) -> str:
    """Return the trade-off curve that a setting lies on: its label without the knobs that a sweep appended.

    "NAG scale=4 tau=2.5" lies on "NAG". A label of one word is its own curve, even if that word looks like a knob.
    """
    words = label.split()
    while len(words) > 1 and "=" in words[-1]:
        words.pop()
    return " ".join(words)


def curves(labels: Sequence[str]) -> dict[str, list[str]]:
    """Group labels by their curve, in the given order."""
    labels_of_curve: dict[str, list[str]] = {}
    for label in labels:
        labels_of_curve.setdefault(curve(label), []).append(label)
    return labels_of_curve


def _number(value: bool | float | None) -> float | None:
    return None if value is None else float(value)
