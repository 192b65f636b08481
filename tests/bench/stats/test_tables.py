"""Rows by setting, scores by image."""

import pytest

from support.scored_rows import score, setting
from vsf.bench.stats.tables import by_label, column, curve, curves, per_pair
from vsf.errors import RequestError


def test_rows_are_found_by_setting_pair_and_seed():
    rows = [*setting("vsf", [True, False], [True, True]), *setting("none", [True, True], [False, False])]
    tables = by_label(rows)
    assert list(tables) == ["vsf", "none"]
    assert column(tables["vsf"], "positive") == {("p0", "", 0): 1.0, ("p1", "", 0): 0.0}


def test_two_rows_of_the_same_image_are_refused_because_one_would_hide_the_other():
    with pytest.raises(RequestError, match='"vsf" has two rows of p from seed 3'):
        by_label([score("p", 3, "vsf"), score("p", 3, "vsf", negative=False)])


def test_an_unscored_image_is_none_and_leaves_the_mean_of_its_pair_to_the_others():
    values = column(
        by_label([score("p", 0, "a"), score("p", 1, "a", negative=None), score("q", 0, "a", negative=None)])["a"],
        "negative",
    )
    assert values == {("p", "", 0): 1.0, ("p", "", 1): None, ("q", "", 0): None}
    assert per_pair(values) == {"p": 1.0}


def test_each_pair_counts_once_however_many_of_its_images_are_scored():
    assert per_pair({("p", "", 0): 1.0, ("p", "", 1): 0.0, ("q", "", 0): 0.25}) == {"p": 0.5, "q": 0.25}


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("NAG scale=4", "NAG"),
        ("VSF orthogonal scale=2 offset=-0.5", "VSF orthogonal"),
        ("VSF strong", "VSF strong"),
        ("scale=4", "scale=4"),
        ("vsf:orthogonal=true scale=2", "vsf:orthogonal=true"),
        ("vsf:orthogonal=true,scale=2", "vsf:orthogonal=true,scale=2"),
    ],
)
def test_a_curve_is_a_label_without_its_knobs(label, name):
    assert curve(label) == name


def test_settings_are_grouped_by_curve_in_their_order():
    assert curves(["b s=1", "a", "b s=2"]) == {"b": ["b s=1", "b s=2"], "a": ["a"]}
