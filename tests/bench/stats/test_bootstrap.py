"""Bootstrap intervals that resample pairs."""

import math

import numpy as np
import pytest

from vsf.bench.stats.bootstrap import interval, matrix, percentiles, resampled


def test_an_interval_is_about_two_standard_errors_wide_on_either_side():
    values = [float(index % 2) for index in range(400)]
    found = interval(values)
    assert found.mean == 0.5
    assert found.high - found.mean == pytest.approx(1.96 * 0.5 / math.sqrt(400), abs=0.006)
    assert found.mean - found.low == pytest.approx(1.96 * 0.5 / math.sqrt(400), abs=0.006)


def test_an_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(7)
    hits = [
        found.low <= 0.3 <= found.high
        for found in (interval(list(rng.binomial(1, 0.3, 150) * 1.0)) for _ in range(200))
    ]
    assert 0.89 <= np.mean(hits) <= 0.99


def test_equal_values_have_an_interval_without_width_and_none_have_no_interval():
    found = interval([0.75] * 9)
    assert (found.mean, found.low, found.high) == (0.75, 0.75, 0.75)
    assert interval([]) is None


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
    found = matrix([{("p", 0): 1.0, ("p", 1): 0.0}, {("q", 0): 1.0, ("r", 0): None}])
    assert np.array_equal(found, [[0.5, np.nan], [np.nan, 1.0]], equal_nan=True)
    assert matrix([{}, {}]).shape == (0, 2)
