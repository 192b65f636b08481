"""Bootstrap intervals that resample pairs."""

import math

import numpy as np
import pytest

from vsf.bench.stats.bootstrap import interval, matrix, percentiles, resampled


def of_pairs(values):
    """A column with an image for each pair."""
    return {(f"p{index}", "", 0): value for index, value in enumerate(values)}


def test_an_interval_is_about_two_standard_errors_wide_on_either_side():
    values = [float(index % 2) for index in range(400)]
    found = interval(of_pairs(values))
    assert found.mean == 0.5
    assert found.high - found.mean == pytest.approx(1.96 * 0.5 / math.sqrt(400), abs=0.006)
    assert found.mean - found.low == pytest.approx(1.96 * 0.5 / math.sqrt(400), abs=0.006)


def test_an_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(7)
    hits = [
        found.low <= 0.3 <= found.high
        for found in (interval(of_pairs(list(rng.binomial(1, 0.3, 150) * 1.0))) for _ in range(200))
    ]
    assert 0.89 <= np.mean(hits) <= 0.99


def test_equal_values_have_an_interval_without_width_and_none_have_no_interval():
    found = interval(of_pairs([0.75] * 9))
    assert (found.mean, found.low, found.high) == (0.75, 0.75, 0.75)
    assert interval({}) is None
    assert interval({("p", "", 0): None}) is None


def test_images_of_a_pair_are_drawn_together():
    alone = interval(of_pairs([0.0, 1.0, 1.0, 0.0, 1.0]))
    often = {
        (pair, "", seed): value
        for (pair, _, _), value in of_pairs([0.0, 1.0, 1.0, 0.0, 1.0]).items()
        for seed in range(9)
    }
    assert interval(often) == alone


def test_students_that_differ_widen_an_interval_and_those_that_agree_do_not():
    rng = np.random.default_rng(0)
    agreeing, differing = {}, {}
    for index, value in enumerate(rng.binomial(1, 0.5, 400) * 0.5):
        for number, student in enumerate(("a", "b", "c")):
            agreeing[f"p{index}", student, 0] = value
            differing[f"p{index}", student, 0] = value + 0.25 * (number - 1)
    widths = []
    for values in ({key: v for key, v in agreeing.items() if key[1] == "a"}, agreeing, differing):
        found = interval(values)
        assert found.mean == pytest.approx(np.mean(list(values.values())))
        widths.append(found.high - found.low)
    assert widths[1] == pytest.approx(widths[0], rel=0.1)
    # Three students at -.25, 0 and .25 have a standard error of .2/√3, which is far above that of the pairs.
    assert widths[2] == pytest.approx(2 * 1.96 * math.sqrt(1 / 24) / math.sqrt(3), rel=0.2)


def test_an_interval_over_pairs_and_students_covers_the_truth_at_least_as_often_as_it_says():
    rng = np.random.default_rng(3)
    hits = []
    for _ in range(100):
        pairs, students = rng.normal(0, 1, 40), rng.normal(0, 1, 12)
        values = {
            (f"p{i}", f"s{j}", 0): pair + student + rng.normal()
            for i, pair in enumerate(pairs)
            for j, student in enumerate(students)
        }
        found = interval(values)
        hits.append(found.low <= 0 <= found.high)
    assert np.mean(hits) >= 0.88


def test_columns_share_their_draws_so_that_a_constant_difference_stays_constant():
    first = np.array([0.0, 1.0, 0.5, 0.25])
    means = resampled(np.stack([first, first + 0.5], axis=1))
    assert np.allclose(means[:, 1] - means[:, 0], 0.5)


def test_a_pair_that_a_column_lacks_takes_no_part_in_its_mean():
    means = resampled(np.array([[1.0, 0.0], [np.nan, 1.0]]))
    assert np.nanmax(np.abs(means[:, 0] - 1.0)) == 0.0
    assert 0.15 < np.isnan(means[:, 0]).mean() < 0.35  # both draws take the second pair in a quarter of the cases


def test_the_ends_leave_out_draws_without_a_mean():
    low, high = percentiles(np.array([[np.nan], [1.0], [1.0]]))
    assert (low[0], high[0]) == (1.0, 1.0)


def test_a_matrix_has_a_row_for_each_pair_that_any_column_scored():
    found = matrix([{("p", "", 0): 1.0, ("p", "", 1): 0.0}, {("q", "", 0): 1.0, ("r", "", 0): None}])
    assert np.array_equal(found, [[0.5, np.nan], [np.nan, 1.0]], equal_nan=True)
    assert matrix([{}, {}]).shape == (0, 2)
