"""Find how far a family of settings can go before it gives away too much, from noisy measurements at some scales."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

STEP = 0.05  # of the scale


@dataclass(frozen=True)
class Point:
    """The scores measured at a scale, and the number of images behind them."""

    scale: float
    images: int
    positive: float
    negative: float
    quality: float


def furthest(points: Sequence[Point], positive: float, quality: float) -> tuple[float, float]:
    """Return the largest scale up to which positive score and quality stay this high, and its negative score.

    A larger scale never brings back an object or a part, so both scores are smoothed by isotonic regression, weighted
    by images; between the measured scales they are interpolated. The smallest scale has to be 0, no guidance, which is
    also the answer if even that does not keep the scores.
    """
    from scipy.optimize import isotonic_regression

    records = []
    for point in sorted(points, key=lambda point: point.scale):
        records.append((point.scale, point.images, point.positive, point.negative, point.quality))
    scales, weights, positives, negatives, qualities = np.array(records, dtype=float).T
    smooth_positives = isotonic_regression(positives, weights=weights, increasing=False).x
    smooth_negatives = isotonic_regression(negatives, weights=weights).x
    grid = np.arange(0, scales[-1] + STEP / 2, STEP)
    is_admissible = np.interp(grid, scales, smooth_positives) >= positive
    is_admissible &= np.interp(grid, scales, qualities) >= quality
    # argmin finds the first False, which is the appended one if every scale is admissible.
    end = max(0, int(np.argmin(np.append(is_admissible, False))) - 1)
    return float(grid[end]), float(np.interp(grid[end], scales, smooth_negatives))
