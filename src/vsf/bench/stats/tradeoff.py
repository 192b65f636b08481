"""Trade-off curves: the positive score or quality that a method pays for its negative score, and matched points.

Between two neighbouring settings of a frontier every point of the straight line can be reached by drawing each image
with one of the two, chosen by a biased coin. That is what interpolation means here, and no more.
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

SHARES = 16  # a mixture's weights are sixteenths, so differences stay multiples of a fraction and p stays exact


@dataclass(frozen=True)
class Point:
    """A setting in the plane of a trade-off.

    Both scores are exact means of counts. As floats, a share of exactly 1/2 can come out a little above it, and would
    then be rounded up to the next sixteenth.

    Attributes:
        label: Of the setting.
        kept: Positive score or quality, which should stay high.
        negative: Negative score.
    """

    label: str
    kept: Fraction
    negative: Fraction


@dataclass(frozen=True)
class Mixture:
    """One setting, or two neighbours on a frontier.

    Attributes:
        labels: Of the settings.
        share: How much of the first; the second makes up the rest.
    """

    labels: tuple[str, ...]
    share: Fraction = Fraction(1)

    @property
    def weights(self) -> dict[str, float]:
        """The share of each setting."""
        return dict(zip(self.labels, (float(self.share), float(1 - self.share)), strict=False))


@dataclass(frozen=True)
class Band:
    """The negative score that a curve reaches at each value of `kept`, with its interval; NaN out of reach."""

    kept: Float64[np.ndarray, " grid"]
    negative: Float64[np.ndarray, " grid"]
    low: Float64[np.ndarray, " grid"]
    high: Float64[np.ndarray, " grid"]


def points(tables: Mapping[str, Table], labels: Sequence[str], kept: Metric = "positive") -> list[Point]:
    """Return the point of each setting that has scores of both kinds."""
    scored = []
    for label in labels:
        kept_mean = exact_mean(column(tables[label], kept))
        negative_mean = exact_mean(column(tables[label], "negative"))
        if kept_mean is not None and negative_mean is not None:
            scored.append(Point(label, kept_mean, negative_mean))
    return scored


def frontier(candidates: Sequence[Point]) -> list[Point]:
    """Return the Pareto frontier: the points that no other beats in one score without losing in the other.

    The point that keeps most comes first.
    """
    front: list[Point] = []
    for point in sorted(candidates, key=lambda point: (-point.kept, -point.negative)):
        if not front or point.negative > front[-1].negative:
            front.append(point)
    return front


def hypervolume(candidates: Sequence[Point]) -> Fraction:
    """Return the area of the points of the unit square that some candidate beats in both scores.

    Unlike a matched point it judges a whole frontier, and favours no bound; E. Zitzler and L. Thiele, Multiobjective
    optimization using evolutionary algorithms, PPSN V (1998).
    """
    area = Fraction()
    less_negative = Fraction()
    for point in frontier(candidates):
        area += point.kept * (point.negative - less_negative)
        less_negative = point.negative
    return area


def match(candidates: Sequence[Point], kept: float) -> Mixture | None:
    """Return the mixture on the frontier that keeps this much; None if no setting does.

    Its weights are rounded to a multiple of 1 / SHARES, towards keeping more.

    Args:
        candidates: Settings of one curve.
        kept: Taken as the decimal number that it is written as: 0.9 is nine tenths, not the float next to it.
    """
    front = frontier(candidates)
    bound = Fraction(str(kept))
    if not front or front[0].kept < bound:
        return None
    if front[-1].kept >= bound:
        return Mixture((front[-1].label,))
    # The frontier falls from its first point to its last, and the bound lies between these, so one segment crosses it.
    for more, less in pairwise(front):
        if more.kept >= bound > less.kept:
            break
    exact_share = (bound - less.kept) / (more.kept - less.kept)
    share = Fraction(-(-exact_share * SHARES // 1), SHARES)  # the negated floor of the negative rounds up
    return Mixture((more.label,)) if share == 1 else Mixture((more.label, less.label), share)


def blend(tables: Mapping[str, Table], mixture: Mixture, metric: Metric) -> dict[Key, float | None]:
    """Return the expected score of a mixture on each image, a weighted mean; None if one of its settings has none."""
    columns = {label: column(tables[label], metric) for label in mixture.labels}
    keys: dict[Key, None] = {}  # a set that keeps its order
    for values in columns.values():
        keys.update(dict.fromkeys(values))
    return {key: _weighted(columns, mixture, key) for key in keys}


def band(tables: Mapping[str, Table], labels: Sequence[str], kept: Metric, grid: Sequence[float]) -> Band:
    """Interpolate a method's frontier over a grid of `kept` values, with its bootstrap interval.

    The settings are those on the frontier of all pairs; in a bootstrap draw some of them may fall off its own frontier.
    There is no interval where fewer than half of the draws keep as much.
    """
    axis = np.asarray(grid, dtype=float)
    on_frontier = [point.label for point in frontier(points(tables, labels, kept))]
    if not on_frontier:
        nothing = np.full(len(axis), np.nan)
        return Band(axis, nothing, nothing, nothing)
    kept_columns = []
    negative_columns = []
    for label in on_frontier:
        kept_columns.append(column(tables[label], kept))
        negative_columns.append(column(tables[label], "negative"))
    values = matrix(kept_columns + negative_columns)
    draws = np.array([_interpolate(means, grid) for means in resampled(values)])
    line = _interpolate(np.nanmean(values, axis=0), grid)
    # An interval over the few draws that reach this far would only show those that happened to be good.
    is_rare = np.isnan(draws).mean(axis=0) > 0.5
    filled = np.where(is_rare, 0.0, draws)  # percentiles of NaN alone would warn
    low, high = np.where(is_rare | np.isnan(line), np.nan, percentiles(filled))
    return Band(axis, line, low, high)


def _interpolate(means: Float64[np.ndarray, " twice_settings"], grid: Sequence[float]) -> Float64[np.ndarray, " grid"]:
    """Interpolate the frontier of some settings at each point of a grid.

    Args:
        means: The kept score of each setting, then the negative score of each; NaN if a draw has no image of it.
        grid: Values of the kept score.
    """
    kept_means, negative_means = np.split(means, 2)
    is_known = ~np.isnan(kept_means + negative_means)
    kept_means = kept_means[is_known]
    negative_means = negative_means[is_known]
    if not len(kept_means):
        return np.full(len(grid), np.nan)
    most_kept_first = np.lexsort((-negative_means, -kept_means))
    kept_means = kept_means[most_kept_first]
    negative_means = negative_means[most_kept_first]
    # As in `frontier`: a point belongs to it if its negative score is above those of all that keep more.
    best_before = np.maximum.accumulate(np.concatenate(([-np.inf], negative_means[:-1])))
    on_frontier = negative_means > best_before
    # np.interp wants rising abscissas. Keeping less than the last point costs nothing; keeping more than the first is
    # out of reach.
    abscissas = kept_means[on_frontier][::-1]
    return np.interp(grid, abscissas, negative_means[on_frontier][::-1], right=np.nan)


def _weighted(columns: Mapping[str, Column], mixture: Mixture, key: Key) -> float | None:
    total = 0.0
    for label, weight in mixture.weights.items():
        value = columns[label].get(key)
        if value is None:
            return None
        total += weight * value
    return total
