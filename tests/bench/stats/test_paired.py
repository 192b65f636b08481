"""Paired tests against brute force, and against published numbers."""

from fractions import Fraction
from itertools import product
from math import comb
from statistics import NormalDist

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vsf.bench.stats.paired import RESAMPLES, compare, holm, mcnemar, sign_flip


def enumerated(differences):
    """Two-sided p from every choice of signs, in exact arithmetic."""
    exact = [Fraction(value) for value in differences]
    observed = abs(sum(exact))
    sums = [abs(sum(s * v for s, v in zip(signs, exact, strict=True))) for signs in product((-1, 1), repeat=len(exact))]
    return float(Fraction(sum(total >= observed for total in sums), len(sums)))


@given(st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.0]), min_size=1, max_size=8))
@settings(deadline=None, max_examples=40)
def test_p_of_two_seeds_equals_the_enumeration_of_all_signs(differences):
    found = sign_flip(differences)
    assert found.resamples is None
    assert found.p == pytest.approx(enumerated(differences), rel=1e-12)


@given(st.lists(st.integers(-64, 64).map(lambda size: size / 32), min_size=1, max_size=8))
@settings(deadline=None, max_examples=40)
def test_p_of_a_mixture_in_sixteenths_equals_the_enumeration_of_all_signs(differences):
    assert sign_flip(differences).p == pytest.approx(enumerated(differences), rel=1e-12)


def test_p_of_three_seeds_is_exact_too():
    differences = [1 / 3, 2 / 3, -1 / 3, 1.0, 0.5]
    expected = enumerated([2 / 6 * 6, 4.0, -2.0, 6.0, 3.0])
    assert sign_flip(differences).resamples is None
    assert sign_flip(differences).p == pytest.approx(expected, rel=1e-12)


def test_p_of_differences_on_one_side_is_two_of_all_signs_even_where_that_is_tiny():
    assert sign_flip([1.0] * 200).p == pytest.approx(2.0**-199, rel=1e-12)
    assert sign_flip([-0.5] * 1000).p == pytest.approx(2.0**-999, rel=1e-9)


def test_p_of_a_thousand_wins_and_losses_equals_the_binomial_tail():
    wins, losses = 560, 440
    tail = 2 * sum(comb(1000, k) for k in range(wins, 1001)) / 2**1000
    assert sign_flip([0.5] * wins + [-0.5] * losses).p == pytest.approx(tail, rel=1e-10)


def test_pairs_without_a_difference_change_nothing_and_alone_show_nothing():
    assert sign_flip([0.5, 0.5, -1.0, 0.0, 0.0]).p == sign_flip([0.5, 0.5, -1.0]).p
    assert sign_flip([0.0, 0.0]).p == 1.0


def test_differences_of_no_common_fraction_are_enumerated_when_few():
    differences = [2**0.5, 3**0.5, -(5**0.5), 7**0.5, 11**0.5]
    found = sign_flip(differences)
    assert found.p == pytest.approx(enumerated(differences), rel=1e-12)
    assert found.resamples is None


def test_many_differences_of_no_common_fraction_are_resampled_and_say_so():
    differences = [(index + 2) ** 0.5 / 10 * (-1 if index % 3 == 0 else 1) for index in range(40)]
    found = sign_flip(differences)
    assert found.resamples == RESAMPLES
    spread = sum(value**2 for value in differences) ** 0.5
    assert found.p == pytest.approx(2 * NormalDist().cdf(-sum(differences) / spread), abs=0.01)
    assert found == sign_flip(differences)


def test_two_large_and_fine_differences_do_not_ask_for_a_table_of_all_sums():
    assert sign_flip([19_999 / 20_000, 19_997 / 19_998 * 1000]).p == 0.5


def test_holm_gives_the_numbers_of_a_worked_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
@settings(deadline=None)
def test_holm_rejects_exactly_what_stepping_down_rejects(ps):
    for level in (0.01, 0.05, 0.3):
        rejected = set()
        for rank, index in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
            if min(1.0, (len(ps) - rank) * ps[index]) > level:
                break
            rejected.add(index)
        assert {index for index, p in enumerate(holm(ps)) if p <= level} == rejected


def test_holm_of_one_comparison_or_none_changes_nothing():
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


def test_mcnemar_equals_the_sign_test_of_the_images_that_changed():
    images = [(1, 0)] * 9 + [(0, 1)] * 2 + [(1, 1)] * 30 + [(0, 0)] * 5
    assert mcnemar(images) == pytest.approx(2 * sum(comb(11, k) for k in range(9, 12)) / 2**11)
    assert mcnemar([(1, 1), (0, 0)]) == 1.0


def test_a_comparison_pairs_images_and_gives_every_pair_one_difference():
    first = {("p", "", 0): 1.0, ("p", "", 1): 1.0, ("q", "", 0): 0.0, ("q", "", 1): 1.0}
    second = {("p", "", 0): 0.0, ("p", "", 1): 1.0, ("q", "", 0): 0.0, ("q", "", 1): 1.0}
    found = compare(first, second)
    assert found.per_pair == (0.5, 0.0)
    assert (found.difference, found.images, found.dropped) == (0.25, 4, 0)
    assert found.test.p == 1.0
    assert found.mcnemar == 1.0


def test_images_that_are_unscored_or_missing_on_one_side_are_dropped_and_counted():
    first = {("p", "", 0): 1.0, ("p", "", 1): None, ("q", "", 0): 1.0, ("r", "", 0): 1.0}
    second = {("p", "", 0): 0.0, ("p", "", 1): 1.0, ("q", "", 0): None}
    found = compare(first, second)
    assert found.per_pair == (1.0,)
    assert (found.images, found.dropped) == (1, 3)


def test_scores_that_are_no_yes_or_no_have_no_mcnemar():
    assert compare({("p", "", 0): 0.5}, {("p", "", 0): 0.0}).mcnemar is None


def test_nothing_in_common_is_no_difference_not_a_difference_of_0():
    found = compare({("p", "", 0): None}, {("p", "", 0): 1.0})
    assert (found.difference, found.test, found.mcnemar, found.dropped) == (None, None, None, 1)
