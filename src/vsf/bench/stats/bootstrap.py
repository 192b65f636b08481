"""Intervals from resampling pairs: the images of a pair are drawn together or not at all."""

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
    """A mean with the percentiles of its bootstrap distribution at LEVEL."""

    mean: float
    low: float
    high: float


def interval(values: Sequence[float]) -> Interval | None:
    """The mean of one value per pair with its interval; None without any value."""
    if not values:
        return None
    means = resampled(np.asarray(values, dtype=float)[:, None])[:, 0]
    low, high = percentiles(means)
    return Interval(float(np.mean(values)), float(low), float(high))


def resampled(values: Float64[np.ndarray, "pairs columns"]) -> Float64[np.ndarray, "draws columns"]:
    """Means of each column over RESAMPLES draws of as many pairs, with replacement.

    All columns share their draws, which keeps what they have in common. NaN is a pair that a column does not have; a
    column's mean is NaN in a draw without any pair of it.
    """
    draws, there = _draws(len(values)), ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return (draws @ np.where(there, values, 0.0)) / (draws @ there)


@lru_cache(maxsize=4)
def _draws(pairs: int) -> Float64[np.ndarray, "draws pairs"]:
    """How often each draw takes each pair."""
    chances = np.full(pairs, 1 / pairs)
    return np.random.default_rng(0).multinomial(pairs, chances, size=RESAMPLES).astype(float)


def percentiles(samples: Float64[np.ndarray, "draws ..."]) -> Float64[np.ndarray, "2 ..."]:
    """The lower and the upper end of the central LEVEL of samples along the first axis, those that are NaN left out."""
    rest = 50 * (1 - LEVEL)
    return np.asarray(np.nanpercentile(samples, [rest, 100 - rest], axis=0))


def matrix(columns: Sequence[Column]) -> Float64[np.ndarray, "pairs columns"]:
    """The mean of each pair in each column; NaN where a column has no scored image of a pair."""
    means = [per_pair(column) for column in columns]
    pairs = sorted({pair for column in means for pair in column})
    return np.array([[column.get(pair, np.nan) for column in means] for pair in pairs]).reshape(
        len(pairs), len(columns)
    )
