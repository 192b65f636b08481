"""Bootstrap intervals from resampling pairs, and students where there are several.

All images of a pair are drawn together or not at all. Pairs and students are crossed, since every student draws every
pair, so both are resampled and an image counts as often as its pair and its student were drawn: A. B. Owen, The
pigeonhole bootstrap, Ann. Appl. Statist. 1 (2007), whose intervals are a little too wide rather than too narrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean

import numpy as np
from jaxtyping import Float64

from vsf.bench.stats.tables import Column, per_pair

RESAMPLES = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean with its percentile bootstrap interval at LEVEL."""

    mean: float
    low: float
    high: float


def interval(values: Column) -> Interval | None:
    """Return the mean over pairs of the scored images of a column with its interval; None without any."""
    pair_means = per_pair(values)
    if not pair_means:
        return None
    by_student = _by_student(values)
    is_scored = ~np.isnan(by_student)
    pairs, students = by_student.shape
    pair_draws = _draws(pairs)
    sums = pair_draws @ np.where(is_scored, by_student, 0.0)
    counts = pair_draws @ is_scored
    if students > 1:
        student_draws = _draws(students, seed=1)
        sums = (sums * student_draws).sum(1)
        counts = (counts * student_draws).sum(1)
    with np.errstate(invalid="ignore"):  # 0/0 is the NaN of a draw without any image
        means = sums / counts
    low, high = percentiles(means.ravel())
    return Interval(fmean(pair_means.values()), float(low), float(high))


def _by_student(values: Column) -> Float64[np.ndarray, "pairs students"]:
    """Return the mean of each pair for each student; NaN where a student has no scored image of a pair."""
    images: dict[tuple[str, str], list[float]] = {}
    for (pair, student, _), value in values.items():
        if value is not None:
            images.setdefault((pair, student), []).append(value)
    pairs = list(dict.fromkeys(pair for pair, _ in images))
    students = list(dict.fromkeys(student for _, student in images))
    means = np.full((len(pairs), len(students)), np.nan)
    row_of = {pair: row for row, pair in enumerate(pairs)}
    for (pair, student), scores in images.items():
        means[row_of[pair], students.index(student)] = fmean(scores)
    return means


def resampled(values: Float64[np.ndarray, "pairs columns"]) -> Float64[np.ndarray, "draws columns"]:
    """Return the means of each column over RESAMPLES draws, each of as many pairs, with replacement.

    All columns share their draws, which keeps their correlation: settings are compared on the same resampled pairs.

    Args:
        values: NaN for a pair that a column does not have. A draw without any pair of a column has mean NaN there.
    """
    draws = _draws(len(values))
    is_known = ~np.isnan(values)
    # Counts times values is the sum of a draw's values, for all draws and columns in one matrix product.
    with np.errstate(invalid="ignore"):  # 0/0 is the NaN of a draw without any pair
        return (draws @ np.where(is_known, values, 0.0)) / (draws @ is_known)


@lru_cache(maxsize=4)
def _draws(items: int, seed: int = 0) -> Float64[np.ndarray, "draws items"]:
    """Return how often each draw contains each pair, or student; those of different seeds are independent."""
    # The seed is fixed, so that a report written again has the same intervals to the last digit.
    probabilities = np.full(items, 1 / items)
    return np.random.default_rng(seed).multinomial(items, probabilities, size=RESAMPLES).astype(float)


def percentiles(samples: Float64[np.ndarray, "draws ..."]) -> Float64[np.ndarray, "2 ..."]:
    """Return the ends of the central LEVEL of samples along the first axis, ignoring NaN."""
    tail = 50 * (1 - LEVEL)
    return np.asarray(np.nanpercentile(samples, [tail, 100 - tail], axis=0))


def matrix(columns: Sequence[Column]) -> Float64[np.ndarray, "pairs columns"]:
    """Return the mean of each pair in each column; NaN where a column has no scored image of a pair."""
    means = [per_pair(column) for column in columns]
    pairs = sorted(set[str]().union(*means))
    values = np.full((len(pairs), len(columns)), np.nan)
    for row, pair in enumerate(pairs):
        for column, column_means in enumerate(means):
            values[row, column] = column_means.get(pair, np.nan)
    return values
