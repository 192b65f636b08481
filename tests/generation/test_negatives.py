"""Negative prompts in every spelling: plain, weighted, several in one text; parsed and formatted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsf.errors import PromptError
from vsf.generation.negatives import format_negatives, parse_negatives


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("wheels", "wheels"),
        ("", ""),
        ("  ", ""),
        ([], ""),
        (["", "wheels"], "wheels"),
        ("wheels, lights", "wheels, lights"),
        ("a 16:9 format", "a 16:9 format"),
        ("wheels:0.5", "wheels:0.5"),
        ("note: wheels", "note: wheels"),
        (r"wheels \(front\)", "wheels (front)"),
        ("(wheels:1)", "wheels"),
        ("(wheels:1.2)", {"wheels": 1.2}),
        ("(wheels)", {"wheels": 1.1}),
        ("((wheels:2):1.5)", {"wheels": 3.0}),
        ("(worst quality, blurry:1.4)", {"worst quality, blurry": 1.4}),
        (["wheels", "(lights:0.5)"], {"wheels": 1.0, "lights": 0.5}),
        (["wheels", "wheels"], {"wheels": 2.0}),
        (["(wheels:0.5)", "(wheels:0.5)"], "wheels"),
        (["wheels", "(lights:0)"], "wheels"),
        ("(lights:0)", ""),
        ("(wheels:1.2), blurry, (lights:0.5)", {"wheels": 1.2, "lights": 0.5, "blurry": 1.0}),
        ("blurry, (wheels:1.2), grainy", {"wheels": 1.2, "blurry, grainy": 1.0}),
        ("blurry,(wheels:1.2),", {"wheels": 1.2, "blurry": 1.0}),
        ("(wheels:0.5), wheels", {"wheels": 1.5}),
        ("(wheels:1.2), (lights:1.2)", {"wheels": 1.2, "lights": 1.2}),
        ({"wheels": 1.0, "lights": 0.5}, {"wheels": 1.0, "lights": 0.5}),
    ],
)
def test_what_is_written_is_read(written, read):
    assert parse_negatives(written) == read


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("blurry (bad:1.3) hands", 'not "bad" within one; put commas around'),
        ("(bad:1.3) hands", 'not "bad" within one'),
        ("blurry (hands:1.3)", 'not "hands" within one'),
        ("(a:1.2)(b:1.3)", 'not "a" within one'),
        ("(wheels:-1)", 'write "(wheels:1)"'),
        ("(wheels:1,3)", "is no weight"),
        ("(wheels", "never closed"),
        ("(wheels:inf)", "write a number up to 10"),
        (["wheels", 3], "has to be text, got 3"),
        (3, "has to be text, got 3"),
    ],
)
def test_what_cannot_be_meant_is_refused(written, words):
    with pytest.raises(PromptError) as caught:
        parse_negatives(written)
    assert words in str(caught.value)


def test_negatives_are_spelled_in_one_line():
    assert format_negatives({"wheels": 1.0, "lights": 0.5}) == "wheels, (lights:0.5)"
    assert format_negatives({}) == ""


TEXTS = st.text(st.characters(codec="ascii", categories=["L"]), min_size=1)
WEIGHTS = st.integers(1, 40).map(lambda tenths: tenths / 10)


@given(st.dictionaries(TEXTS, WEIGHTS, min_size=1, max_size=4))
def test_what_is_spelled_is_read_again(negatives):
    light = [text for text, weight in negatives.items() if weight == 1]
    together = {text: weight for text, weight in negatives.items() if weight != 1}
    together |= {", ".join(light): 1.0} if light else {}
    alone = list(together.values()) == [1.0]
    assert parse_negatives(format_negatives(negatives)) == (next(iter(together)) if alone else together)
