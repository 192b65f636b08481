"""Frontiers, mixtures of neighbouring settings, and bands."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.scored_rows import setting
from vsf.bench.stats.tables import by_label
from vsf.bench.stats.tradeoff import SHARES, Mixture, Point, band, blend, frontier, hypervolume, match, points


def tenths(label, kept, negative):
    return Point(label, Fraction(kept, 10), Fraction(negative, 10))


STEPS = [tenths("a", 10, 2), tenths("b", 9, 4), tenths("c", 8, 3), tenths("d", 5, 8)]
PLANES = st.lists(st.tuples(st.integers(0, 10), st.integers(0, 10)), min_size=1, max_size=12)


def plane(cells):
    return [tenths(str(index), kept, negative) for index, (kept, negative) in enumerate(cells)]


def expected_negative(candidates, kept):
    """What the mixture that is matched scores."""
    mixture = match(candidates, kept)
    negatives = {point.label: float(point.negative) for point in candidates}
    return sum(weight * negatives[label] for label, weight in mixture.weights.items())


def on_the_line(candidates, kept):
    """The negative score on the straight line between the two neighbours on the frontier."""
    front = frontier(candidates)
    if float(front[-1].kept) >= kept:
        return float(front[-1].negative)
    more, less = next((a, b) for a, b in itertools.pairwise(front) if float(a.kept) >= kept > float(b.kept))
    share = (kept - float(less.kept)) / float(more.kept - less.kept)
    return share * float(more.negative) + (1 - share) * float(less.negative)


def test_a_frontier_leaves_out_what_is_beaten_in_both_scores():
    assert [point.label for point in frontier(STEPS)] == ["a", "b", "d"]


@given(PLANES)
@settings(deadline=None)
def test_a_point_is_on_the_frontier_or_another_is_at_least_as_good_in_both(cells):
    found, front = plane(cells), frontier(plane(cells))
    for point in found:
        assert any(other.kept >= point.kept and other.negative >= point.negative for other in front)
    for one in front:
        assert not any(o.kept >= one.kept and o.negative >= one.negative and o != one for o in front)


@pytest.mark.parametrize(
    ("kept", "negative"), [(1.0, 0.2), (0.95, 0.3), (0.9, 0.4), (0.7, 0.6), (0.5, 0.8), (0.1, 0.8)]
)
def test_between_two_settings_the_line_between_them_is_reached(kept, negative):
    assert expected_negative(STEPS, kept) == pytest.approx(negative)


def test_more_than_any_setting_keeps_is_not_reached():
    assert match(STEPS, 1.01) is None
    assert match([], 0.5) is None


def test_a_match_names_the_two_neighbours_and_their_shares():
    assert match(STEPS, 0.95) == Mixture(("a", "b"), Fraction(1, 2))
    assert match(STEPS, 0.9) == Mixture(("b",))
    assert match(STEPS, 0.2) == Mixture(("d",))


@given(st.sampled_from([50, 100, 200]), st.integers(1, 3), st.integers(1, SHARES - 1), st.data())
@settings(deadline=None)
def test_a_share_that_is_exactly_so_many_sixteenths_is_not_rounded_up(pairs, seeds, share, data):
    """For images that were counted, and any bound in hundredths so many sixteenths of the way between two settings."""
    images = pairs * seeds
    distance = data.draw(st.integers(1, images // SHARES // 2)) * SHARES
    bound = data.draw(st.sampled_from([step for step in range(1, 101) if (step * images) % 100 == 0]))
    more = bound * images // 100 + distance * (SHARES - share) // SHARES
    less = more - distance
    if not 0 <= less < more <= images:
        return
    rows = [
        *setting("a", [True] * more + [False] * (images - more), [False] * images, seeds=seeds),
        *setting("b", [True] * less + [False] * (images - less), [True] * images, seeds=seeds),
    ]
    found = match(points(by_label(rows), ["a", "b"]), bound / 100)
    assert found == Mixture(("a", "b"), Fraction(share, SHARES))


def test_the_tie_of_the_evidence_is_a_half_and_not_nine_sixteenths():
    """95 and 85 of 100 kept, matched at .9: as floats, (.9 - .85) / (.95 - .85) lies above 1/2."""
    rows = [
        *setting("a", [True] * 95 + [False] * 5, [False] * 100),
        *setting("b", [True] * 85 + [False] * 15, [True] * 100),
    ]
    assert Fraction((0.9 - 0.85) / (0.95 - 0.85)) > Fraction(1, 2)
    assert match(points(by_label(rows), ["a", "b"]), 0.9) == Mixture(("a", "b"), Fraction(1, 2))


@pytest.mark.parametrize("kept", [0.1, 0.3, 0.7, 0.9])
def test_a_setting_that_keeps_just_what_was_asked_is_taken_alone(kept):
    rows = setting("a", [True] * round(kept * 10) + [False] * round(10 - kept * 10), [True] * 10)
    assert match(points(by_label(rows), ["a"]), kept) == Mixture(("a",))


@given(PLANES, st.floats(0, 1))
@settings(deadline=None)
def test_a_match_keeps_what_was_asked_and_its_weights_are_sixteenths(cells, kept):
    found = match(plane(cells), kept)
    by_name = {point.label: point for point in plane(cells)}
    if found is None:
        assert max(point.kept for point in by_name.values()) < Fraction(str(kept))
        return
    assert sum(found.weights.values()) == 1
    assert all(weight * SHARES == int(weight * SHARES) for weight in found.weights.values())
    assert sum(Fraction(weight) * by_name[label].kept for label, weight in found.weights.items()) >= Fraction(str(kept))


def test_a_mixture_scores_the_weighted_mean_image_by_image_and_none_where_one_is_unscored():
    tables = by_label([*setting("a", [True] * 3, [True, None, False]), *setting("b", [True] * 3, [False, True, False])])
    assert blend(tables, Mixture(("a", "b"), Fraction(1, 4)), "negative") == {
        ("p0", "", 0): 0.25,
        ("p1", "", 0): None,
        ("p2", "", 0): 0.0,
    }


def test_an_image_that_one_setting_of_a_mixture_lacks_is_unscored():
    tables = by_label([*setting("a", [True, True], [True, True]), *setting("b", [True], [True])])
    assert blend(tables, Mixture(("a", "b"), Fraction(1, 2)), "negative") == {("p0", "", 0): 1.0, ("p1", "", 0): None}


def test_points_are_the_means_of_the_settings_that_have_scores():
    rows = [*setting("a", [True, False], [True, True], [0.5, 1.0]), *setting("b", [None], [None], [None])]
    assert points(by_label(rows), ["a", "b"]) == [Point("a", Fraction(1, 2), Fraction(1))]
    assert points(by_label(rows), ["a"], "quality") == [Point("a", Fraction(3, 4), Fraction(1))]


def sweep(pairs=60):
    """Three strengths: the more is removed, the less is kept."""
    rng = np.random.default_rng(3)
    return by_label(
        row
        for label, kept, negative in (("s=1", 0.98, 0.2), ("s=2", 0.9, 0.5), ("s=3", 0.6, 0.9))
        for row in setting(label, list(rng.random(pairs) < kept), list(rng.random(pairs) < negative))
    )


def test_a_band_holds_its_line_and_ends_where_no_setting_reaches():
    tables = sweep()
    found = band(tables, list(tables), "positive", [0.5, 0.7, 0.9, 1.5])
    assert np.all(found.low[:3] <= found.negative[:3])
    assert np.all(found.negative[:3] <= found.high[:3])
    assert np.all(found.high[:3] - found.low[:3] < 0.5)
    assert np.isnan([found.negative[3], found.low[3], found.high[3]]).all()


def test_the_line_of_a_band_is_what_the_frontier_reaches():
    tables = sweep()
    grid = [0.55, 0.65, 0.8, 0.92]
    found = band(tables, list(tables), "positive", grid)
    assert found.negative == pytest.approx([on_the_line(points(tables, list(tables)), kept) for kept in grid])


def test_a_band_narrows_with_the_number_of_pairs():
    few, many = (band(tables, list(tables), "positive", [0.8]) for tables in (sweep(40), sweep(640)))
    assert many.high[0] - many.low[0] < 0.5 * (few.high[0] - few.low[0])


def test_a_curve_without_scores_has_an_empty_band():
    tables = by_label(setting("a", [None], [None]))
    assert np.isnan(band(tables, ["a"], "positive", [0.5]).negative).all()


def test_the_hypervolume_is_the_area_that_the_settings_beat():
    half, corner = tenths("a", 5, 5), tenths("b", 10, 2)
    assert hypervolume([]) == 0
    assert hypervolume([half]) == Fraction(1, 4)
    assert hypervolume([half, corner]) == hypervolume([corner, half, tenths("c", 4, 4)]) == Fraction(35, 100)
