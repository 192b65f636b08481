"""Two settings on the same prompts and seeds: does the difference stand out from chance?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from statistics import fmean

import numpy as np

from vsf.bench.stats.tables import Column, per_pair

RESAMPLES = 99_999
_REACH, _WORK = 2_000_000, 200_000_000  # different sums, and additions: what an exact distribution may cost
_DENOMINATOR, _ROUNDING = 20_000, 1e-12  # differences are taken for fractions up to this denominator


@dataclass(frozen=True)
class SignFlip:
    """Two-sided p of a mean difference; `resamples` is None where the whole distribution was computed."""

    p: float
    resamples: int | None


@dataclass(frozen=True)
class Comparison:
    """The first setting minus the second.

    difference: mean over pairs of the mean over seeds; None when no pair is left. per_pair: that mean of each pair.
    dropped: images that only one setting has, or that either judge left unscored.
    """

    difference: float | None
    test: SignFlip | None
    mcnemar: float | None
    per_pair: tuple[float, ...]
    images: int
    dropped: int


def compare(first: Column, second: Column) -> Comparison:
    """Compare two columns of scores image by image; McNemar's p is None unless every score is 0 or 1."""
    values = {key: (first.get(key), second.get(key)) for key in {**first, **second}}
    both = {key: (one, other) for key, (one, other) in values.items() if one is not None and other is not None}
    differences = tuple(per_pair({key: one - other for key, (one, other) in both.items()}).values())
    binary = all(value in (0, 1) for pair in both.values() for value in pair)
    return Comparison(
        difference=fmean(differences) if differences else None,
        test=sign_flip(differences) if differences else None,
        mcnemar=mcnemar(list(both.values())) if binary and both else None,
        per_pair=differences,
        images=len(both),
        dropped=len(values) - len(both),
    )


def sign_flip(differences: Sequence[float]) -> SignFlip:
    """How often a mean at least as far from 0 comes about when each pair's difference gets its sign by a fair coin.

    Exact, over all 2^n signs, where the differences are multiples of one fraction (two seeds give halves) of which
    there are not too many; else from RESAMPLES random signs, where p is never below 1 / (RESAMPLES + 1).
    """
    units = _units(differences)
    if units is not None:
        return SignFlip(_exact(units), None)
    from scipy.stats import permutation_test

    found = permutation_test(
        (np.asarray(differences),),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=1000,
        rng=np.random.default_rng(0),
    )
    return SignFlip(float(found.pvalue), None if 2 ** len(differences) <= RESAMPLES else RESAMPLES)


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's step-down correction of a family of p values, in the order given.

    Source: S. Holm, A simple sequentially rejective multiple test procedure, Scand. J. Statist. 6 (1979).
    """
    corrected = [0.0] * len(ps)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[index]))
        corrected[index] = highest
    return corrected


def mcnemar(images: Sequence[tuple[float, float]]) -> float:
    """McNemar's exact two-sided p over images that both settings scored 0 or 1; it takes no account of pairs."""
    from scipy.stats import binomtest

    won, lost = sum(one > other for one, other in images), sum(one < other for one, other in images)
    return float(binomtest(won, won + lost).pvalue) if won + lost else 1.0


def _units(differences: Sequence[float]) -> list[int] | None:
    """The sizes of the differences as whole multiples of their largest common fraction; None when there are too many.

    Differences of 0 are left out, whose sign says nothing.
    """
    fractions = [Fraction(abs(value)).limit_denominator(_DENOMINATOR) for value in differences]
    if any(
        abs(float(fraction) - abs(value)) > _ROUNDING for fraction, value in zip(fractions, differences, strict=True)
    ):
        return None
    scale = math.lcm(*(fraction.denominator for fraction in fractions))
    sizes = [int(fraction * scale) for fraction in fractions]
    unit = math.gcd(*sizes) or 1
    reach = sum(sizes) // unit
    if reach > _REACH or reach * len(sizes) > _WORK:
        return None
    return [size // unit * (1 if value > 0 else -1) for size, value in zip(sizes, differences, strict=True) if size]


def _exact(units: Sequence[int]) -> float:
    """P(|sum of randomly signed units| ≥ |their sum|), from the distribution of the sum, one unit after another.

    Probabilities are only ever added, so that even tiny ones keep their digits.
    """
    reach = sum(abs(unit) for unit in units)
    chances = np.zeros(2 * reach + 1)  # of each sum from -reach to reach
    chances[reach] = 1.0
    for unit in map(abs, units):
        half = 0.5 * chances
        chances[unit:] = half[:-unit]
        chances[:unit] = 0.0
        chances[:-unit] += half[unit:]
    far = abs(sum(units))
    tails = float(chances[reach + far :].sum() + chances[: reach - far + 1].sum())
    return min(1.0, tails)
