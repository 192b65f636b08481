"""What a method gives up for its negative score: frontiers, their bands, and points where methods can be compared.

Between two neighbouring settings of a frontier one may draw every image with either by the throw of a coin, so every
point of the straight line between them can be reached. That is what interpolation means here, and no more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np
from jaxtyping import Float64

from vsf.bench.stats.bootstrap import matrix, percentiles, resampled
from vsf.bench.stats.tables import Column, Key, Metric, Table, column, exact_mean

SHARES = 16  # a mixture's weights are sixteenths, so that differences stay multiples of a fraction and p stays exact


@dataclass(frozen=True)
class Point:
    """A setting on the plane: what is kept (positive score or quality), and the negative score.

    Both are exact means of counts: as floats, a share of exactly 1/2 can come out a little above it, and be rounded up
    to the next sixteenth.
    """

    label: str
    kept: Fraction
    negative: Fraction


@dataclass(frozen=True)
class Mixture:
    """One setting, or two neighbours on a frontier and how many sixteenths of the first."""

    labels: tuple[str, ...]
    share: Fraction = Fraction(1)

    @property
    def weights(self) -> dict[str, float]:
        """The share of each setting."""
        return dict(zip(self.labels, (float(self.share), float(1 - self.share)), strict=False))


@dataclass(frozen=True)
class Band:
    """The negative score that a curve reaches at each value of what is kept, and the ends of its interval; or NaN."""

    kept: Float64[np.ndarray, " grid"]
    negative: Float64[np.ndarray, " grid"]
    low: Float64[np.ndarray, " grid"]
    high: Float64[np.ndarray, " grid"]


def points(tables: Mapping[str, Table], labels: Sequence[str], kept: Metric = "positive") -> list[Point]:
    """The settings that have scores of both kinds."""
    found = []
    for label in labels:
        along = exact_mean(column(tables[label], kept))
        across = exact_mean(column(tables[label], "negative"))
        if along is not None and across is not None:
            found.append(Point(label, along, across))
    return found


def frontier(candidates: Sequence[Point]) -> list[Point]:
    """The points that no other beats in one score without losing in the other; the most kept first."""
    front: list[Point] = []
    for point in sorted(candidates, key=lambda point: (-point.kept, -point.negative)):
        if not front or point.negative > front[-1].negative:
            front.append(point)
    return front


def reached(candidates: Sequence[Point], kept: float) -> float | None:
    """The best negative score with at least this much kept; None when no setting keeps as much."""
    found = match(candidates, kept, shares=None)
    if found is None:
        return None
    negatives = {point.label: point.negative for point in candidates}
    return sum(weight * float(negatives[label]) for label, weight in found.weights.items())


def match(candidates: Sequence[Point], kept: float, shares: int | None = SHARES) -> Mixture | None:
    """The mixture on the frontier that keeps this much, or None when no setting does.

    With `shares` its weight is rounded to the next whole share, towards keeping more. `kept` is the decimal number that
    it is written as: 0.9 is nine tenths.
    """
    front = frontier(candidates)
    bound = Fraction(str(kept))
    if not front or front[0].kept < bound:
        return None
    if front[-1].kept >= bound:
        return Mixture((front[-1].label,))
    more, less = next((a, b) for a, b in pairwise(front) if a.kept >= bound > b.kept)
    share = (bound - less.kept) / (more.kept - less.kept)
    if shares is not None:
        share = Fraction(-(-share * shares // 1), shares)
    return Mixture((more.label,)) if share == 1 else Mixture((more.label, less.label), share)


def blend(tables: Mapping[str, Table], mixture: Mixture, metric: Metric) -> dict[Key, float | None]:
    """What a mixture is expected to score on each image: the weighted mean; None where one of its settings has none."""
    columns = {label: column(tables[label], metric) for label in mixture.labels}
    keys = dict.fromkeys(key for values in columns.values() for key in values)
    return {key: _weighted(columns, mixture, key) for key in keys}


def band(tables: Mapping[str, Table], labels: Sequence[str], kept: Metric, grid: Sequence[float]) -> Band:
    """The curve through a method's frontier over a grid of what is kept, with its bootstrap interval.

    Its settings are those on the frontier of all pairs; a draw of pairs may push some of them off its own. Where fewer
    than half of the draws reach that far there is no interval.
    """
    axis = np.asarray(grid, dtype=float)
    usable = [point.label for point in frontier(points(tables, labels, kept))]
    if not usable:
        return Band(axis, *[np.full(len(axis), np.nan)] * 3)
    columns = [column(tables[label], metric) for metric in (kept, "negative") for label in usable]
    values = matrix(columns)
    draws = np.array([_along(means, grid) for means in resampled(values)])
    line = _along(np.nanmean(values, axis=0), grid)
    rare = np.isnan(draws).mean(axis=0) > 0.5
    low, high = np.where(rare | np.isnan(line), np.nan, percentiles(np.where(rare, 0.0, draws)))
    return Band(axis, line, low, high)


def _along(means: Float64[np.ndarray, " twice_settings"], grid: Sequence[float]) -> Float64[np.ndarray, " grid"]:
    """Interpolate the frontier at each point of the grid; the first half of the means is what is kept."""
    kept, negative = np.split(means, 2)
    known = ~np.isnan(kept + negative)
    kept, negative = kept[known], negative[known]
    if not len(kept):
        return np.full(len(grid), np.nan)
    most_kept_first = np.lexsort((-negative, -kept))
    kept, negative = kept[most_kept_first], negative[most_kept_first]
    best_before = np.maximum.accumulate(np.concatenate(([-np.inf], negative[:-1])))
    on_frontier = negative > best_before
    return np.interp(grid, kept[on_frontier][::-1], negative[on_frontier][::-1], right=np.nan)


def _weighted(columns: Mapping[str, Column], mixture: Mixture, key: Key) -> float | None:
    total = 0.0
    for label, weight in mixture.weights.items():
        value = columns[label].get(key)
        if value is None:
            return None
        total += weight * value
    return total
