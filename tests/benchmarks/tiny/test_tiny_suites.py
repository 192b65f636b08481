"""The suites of synthetic scenes that come with the package are what their grammar writes."""

from collections import Counter

import pytest

import tiny_suites
from vsf.bench.suites import load as suites


@pytest.mark.parametrize("split", ["dev", "test"])
def test_tiny_suites_are_what_the_grammar_gives_and_repeat_nothing(split):
    pairs = suites.load(f"tiny-{split}")
    assert pairs == tiny_suites.tiny_suite(split)
    assert max(Counter((pair.prompt, pair.negative) for pair in pairs).values()) == 1
