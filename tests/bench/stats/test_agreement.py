"""Agreement of two judges."""

from collections import Counter

import pytest

from support.scored_rows import setting
from vsf.bench.stats.agreement import agreement, cohen
from vsf.bench.stats.tables import by_label


def test_kappa_is_that_of_a_worked_example():
    # Two readers, 50 cases: 20 times both yes, 15 both no, 5 and 10 apart. .7 equal, .5 by chance.
    share, kappa = cohen(Counter({(True, True): 20, (True, False): 5, (False, True): 10, (False, False): 15}))
    assert (share, kappa) == (pytest.approx(0.7), pytest.approx(0.4))


def test_kappa_takes_off_what_chance_makes_equal():
    independent = Counter({(True, True): 81, (True, False): 9, (False, True): 9, (False, False): 1})
    assert cohen(independent) == (pytest.approx(0.82), pytest.approx(0))
    assert cohen(Counter({(True, True): 7})) == (1.0, None)


def test_only_images_that_both_answered_count():
    first = by_label(setting("a", [True, None, False], [True, True, None]))
    second = by_label(setting("a", [True, True, True], [None, False, None]))
    assert [(found.metric, found.images, found.share) for found in agreement(first, second)] == [
        ("positive", 2, 0.5),
        ("negative", 1, 0.0),
    ]
