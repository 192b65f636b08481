"""Bootstrap intervals from resampling pairs; all images of a pair are drawn together or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

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


def interval(values: Sequence[float]) -> Interval | None:
    """Return the mean of one value per pair with its interval; None without values."""
    if not values:
        return None
    means = resampled(np.asarray(values, dtype=float)[:, None])[:, 0]
    low, high = percentiles(means)
    return Interval(float(np.mean(values)), float(low), float(high))


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
def _draws(pairs: int) -> Float64[np.ndarray, "draws pairs"]:
    """Return how often each draw contains each pair."""
    # The seed is fixed, so that a report written again has the same intervals to the last digit.
    probabilities = np.full(pairs, 1 / pairs)
    return np.random.default_rng(0).multinomial(pairs, probabilities, size=RESAMPLES).astype(float)


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
