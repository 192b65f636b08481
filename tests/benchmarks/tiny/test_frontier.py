"""How far a family of settings can go, from noisy measurements."""

import random

import pytest

from frontier import STEP, Point, furthest


def points(scales, positive, negative, quality=lambda scale: 0.4):
    return [Point(scale, 100, positive(scale), negative(scale), quality(scale)) for scale in scales]


def test_the_end_lies_where_the_line_between_two_scales_meets_the_bound():
    line = points([0, 2, 6], lambda s: 1 - 0.05 * s, lambda s: 0.2 + 0.1 * s)
    assert furthest(line, 0.8, 0.3) == pytest.approx((4.0, 0.6), abs=STEP)


def test_the_order_of_the_points_does_not_matter():
    line = points([0, 2, 6], lambda s: 1 - 0.05 * s, lambda s: 0.2 + 0.1 * s)
    assert furthest(line[::-1], 0.8, 0.3) == furthest(line, 0.8, 0.3)


def test_a_bound_that_all_scales_keep_ends_at_the_largest_measured():
    assert furthest(points([0, 1, 2], lambda s: 1.0, lambda s: 0.1 * s), 0.9, 0.3) == pytest.approx((2.0, 0.2))


def test_a_bound_that_no_guidance_does_not_keep_ends_at_nothing():
    assert furthest(points([0, 1, 2], lambda s: 0.8, lambda s: 0.3), 0.9, 0.3) == pytest.approx((0.0, 0.3))


def test_lost_quality_ends_it_too():
    line = points([0, 2, 4], lambda s: 1.0, lambda s: 0.1 * s, quality=lambda s: 0.4 - 0.05 * s)
    assert furthest(line, 0.9, 0.3)[0] == pytest.approx(2.0, abs=STEP)


def test_an_outlier_weighs_as_much_as_its_images():
    """One lucky measurement beyond the bound is drawn down by its neighbours."""
    lucky = [Point(0, 100, 1, 0.2, 0.4), Point(1, 100, 0.8, 0.4, 0.4), Point(2, 10, 0.95, 0.5, 0.4)]
    assert furthest(lucky, 0.9, 0.3)[0] < 1


def test_noise_moves_the_end_less_than_it_moves_a_single_scale():
    rng = random.Random(0)

    def measured(scale, images=64):
        return sum(rng.random() < 1 - 0.05 * scale for _ in range(images)) / images

    ends = [furthest(points([0, 1, 2, 3, 4, 5], measured, lambda s: 0.1 * s), 0.87, 0.3)[0] for _ in range(200)]
    assert sum(ends) / len(ends) == pytest.approx(2.6, abs=0.4)
