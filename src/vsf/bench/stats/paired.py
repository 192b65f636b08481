"""Paired comparison of two settings on the same prompts and seeds, with exact tests."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from statistics import fmean

import numpy as np
from jaxtyping import Float64

from vsf.bench.stats.tables import Column, Key, per_pair

RESAMPLES = 99_999

# What an exact distribution may cost: its number of different sums, and its number of additions.
_MOST_SUMS = 2_000_000
_MOST_ADDITIONS = 200_000_000

# Differences are recognised as fractions with denominators up to this, which covers halves, thirds and sixteenths of
# every sensible number of seeds, if they are off by no more than the rounding of a float.
_LARGEST_DENOMINATOR = 20_000
_ROUNDING = 1e-12


@dataclass(frozen=True)
class SignFlip:
    """Two-sided p of a mean difference.

    Attributes:
        p: The p value.
        resamples: Number of random sign vectors behind it; None if all were counted.
    """

    p: float
    resamples: int | None


@dataclass(frozen=True)
class Comparison:
    """The first setting minus the second.

    Attributes:
        difference: Mean over pairs of the mean over seeds; None if no pair is left.
        test: Sign-flip test of the difference; None if no pair is left.
        mcnemar: p of McNemar's test over images; None unless every score is 0 or 1.
        per_pair: Mean difference of each pair.
        differences: Difference of each image that counts.
        by_student: Mean difference with each student.
        images: Images that count.
        dropped: Images that only one setting has, or that either judge left unscored.
    """

    difference: float | None
    test: SignFlip | None
    mcnemar: float | None
    per_pair: tuple[float, ...]
    differences: Column
    by_student: Mapping[str, float]
    images: int
    dropped: int


def compare(first: Column, second: Column) -> Comparison:
    """Compare two columns of scores image by image."""
    keys = {**first, **second}  # in the order of the columns, unlike a set, so that sums round the same each time
    scored = {}
    image_differences = {}
    for key in keys:
        first_value = first.get(key)
        second_value = second.get(key)
        if first_value is not None and second_value is not None:
            scored[key] = first_value, second_value
            image_differences[key] = first_value - second_value
    # Seeds are averaged within a pair first, since images of one pair are not independent.
    differences = tuple(per_pair(image_differences).values())
    is_binary = {0, 1}.issuperset(chain.from_iterable(scored.values()))
    return Comparison(
        difference=fmean(differences) if differences else None,
        test=sign_flip(differences) if differences else None,
        mcnemar=mcnemar(list(scored.values())) if is_binary and scored else None,
        per_pair=differences,
        differences=image_differences,
        by_student=_by_student(image_differences),
        images=len(scored),
        dropped=len(keys) - len(scored),
    )


def _by_student(image_differences: Mapping[Key, float]) -> dict[str, float]:
    """Return the mean difference over the pairs of each student: a lead that only some of them show is no lead."""
    of_student: dict[str, dict[Key, float | None]] = {}
    for key, difference in image_differences.items():
        of_student.setdefault(key[1], {})[key] = difference
    return {student: fmean(per_pair(column).values()) for student, column in of_student.items()}


def sign_flip(differences: Sequence[float]) -> SignFlip:
    """Test whether the mean difference is 0: p is the chance of a mean at least as far from 0 under random signs.

    If the two settings are equivalent, each pair's difference is as likely as its negative. The distribution over all
    2^n sign vectors is exact if the differences are multiples of one fraction (two seeds give halves) of which there
    are not too many. Otherwise it is sampled from RESAMPLES random sign vectors, and p is at least 1 / (RESAMPLES + 1).
    """
    units = _units(differences)
    if units is not None:
        return SignFlip(_exact_p(units), None)
    from scipy.stats import permutation_test

    result = permutation_test(
        (np.asarray(differences),),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=1000,
        rng=np.random.default_rng(0),
    )
    # With few pairs scipy enumerates all sign vectors by itself, which is exact, too.
    return SignFlip(float(result.pvalue), None if 2 ** len(differences) <= RESAMPLES else RESAMPLES)


def holm(ps: Sequence[float]) -> list[float]:
    """Correct a family of p values by Holm's step-down method, in the given order.

    Source: S. Holm, A simple sequentially rejective multiple test procedure, Scand. J. Statist. 6 (1979).
    """
    corrected = [0.0] * len(ps)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        # The smallest p is multiplied by the size of the family, the next by one less, and so on. A corrected p is
        # never below that of a smaller p, or the order of the hypotheses would change.
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[index]))
        corrected[index] = highest
    return corrected


def mcnemar(images: Sequence[tuple[float, float]]) -> float:
    """Return McNemar's exact two-sided p over images that both settings scored 0 or 1; it ignores which pair they show.

    Only images on which the settings disagree say anything; under the null hypothesis either is as likely to win.
    """
    from scipy.stats import binomtest

    won = 0
    lost = 0
    for first, second in images:
        won += first > second
        lost += first < second
    return float(binomtest(won, won + lost).pvalue) if won + lost else 1.0


def _units(differences: Sequence[float]) -> list[int] | None:
    """Express the differences as integer multiples of their largest common fraction.

    Differences of 0 are left out, since a sign does not change them.

    Returns:
        None if a difference is no recognisable fraction, or if the distribution of the sums would be too large.
    """
    fractions = []
    for difference in differences:
        fraction = Fraction(abs(difference)).limit_denominator(_LARGEST_DENOMINATOR)
        if abs(float(fraction) - abs(difference)) > _ROUNDING:
            return None
        fractions.append(fraction)
    scale = math.lcm(*(fraction.denominator for fraction in fractions))
    sizes = [int(fraction * scale) for fraction in fractions]
    unit = math.gcd(*sizes) or 1  # the gcd of zeros is 0
    largest_sum = sum(sizes) // unit
    if largest_sum > _MOST_SUMS or largest_sum * len(sizes) > _MOST_ADDITIONS:
        return None
    units = []
    for size, difference in zip(sizes, differences, strict=True):
        if size:
            units.append(size // unit if difference > 0 else -size // unit)
    return units


def _exact_p(units: Sequence[int]) -> float:
    """Return P(|sum of the units with random signs| ≥ |their sum|).

    The distribution of the sum is built up one unit after another: each unit moves half of the probability up and half
    of it down. Probabilities are only ever added, never subtracted from 1, so even tiny ones keep their digits.
    """
    largest_sum = sum(map(abs, units))
    probabilities: Float64[np.ndarray, " sums"] = np.zeros(2 * largest_sum + 1)  # of -largest_sum to largest_sum
    probabilities[largest_sum] = 1.0
    for unit in units:
        shift = abs(unit)
        half = 0.5 * probabilities
        probabilities[shift:] = half[:-shift]
        probabilities[:shift] = 0.0
        probabilities[:-shift] += half[shift:]
    observed = abs(sum(units))
    upper_tail = probabilities[largest_sum + observed :].sum()
    lower_tail = probabilities[: largest_sum - observed + 1].sum()
    return min(1.0, float(upper_tail + lower_tail))  # for a sum of 0 both tails contain the middle
