from contextlib import suppress
from math import inf, nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vsf.errors import PromptError
from vsf.guidance import ValueSignFlip, knobs
from vsf.text.prompt import LARGEST_WEIGHT, Emphasis, Prompt

WEIGHTS = st.floats(0, 2)  # three of which multiply or add up to no more than what is allowed
AWKWARD = st.text(alphabet="ab ,:()[]\\-.1\n", max_size=12)


def weighted(prompt):
    """The emphasised words of a prompt with their weights."""
    return [(prompt.positive[part.start : part.stop], pytest.approx(part.weight)) for part in prompt.emphasis]


@st.composite
def prompts(draw):
    positive = draw(AWKWARD)
    at = st.integers(0, max(len(positive) - 1, 0))
    ranges = draw(st.lists(st.tuples(at, at, WEIGHTS), max_size=3)) if positive else []
    emphasis = tuple(Emphasis(min(a, b), max(a, b) + 1, weight) for a, b, weight in ranges)
    return Prompt(positive, draw(st.dictionaries(AWKWARD, WEIGHTS, max_size=3)), emphasis)


def test_inline_weights_emphasise_words_and_make_negatives():
    prompt = Prompt.parse("a red car (wheels:-1.2) with (hat:1.3)")
    assert prompt == Prompt("a red car with hat", {"wheels": 1.2}, (Emphasis(15, 18, 1.3),))


@pytest.mark.parametrize(
    ("written", "emphasised"),
    [
        ("a (red) car", [("red", 1.1)]),
        ("a ((red)) car", [("red", 1.21)]),
        ("a ((red:1.5)) car", [("red", 1.65)]),
        ("a (red (shiny:2) car:1.5)", [("red ", 1.5), ("shiny", 3.0), (" car", 1.5)]),
        ("a (red:0) car", [("red", 0.0)]),
        ("a (red: +.5 ) car", [("red", 0.5)]),
        ("a (red:1) car", []),
        ("a (red:1.3)(der:1.3)", [("redder", 1.3)]),
        ("((red) car:0)", [("red car", 0.0)]),
    ],
)
def test_brackets_multiply_the_weights_of_what_they_hold(written, emphasised):
    assert weighted(Prompt.parse(written)) == emphasised


@pytest.mark.parametrize(
    ("written", "positive", "emphasised"),
    [
        (r"a \(red\) car", "a (red) car", []),
        (r"a (\(red\):1.3) car", "a (red) car", [("(red)", 1.3)]),
        (r"C:\\ and \[x\]", "C:\\ and [x]", []),
        (r"a\b \n \(", r"a\b \n (", []),
        ("trailing \\", "trailing \\", []),
        ("a smile :) and 1) one", "a smile :) and 1) one", []),
        ("a (16:9 format)", "a 16:9 format", [("16:9 format", 1.1)]),
        ("a (16:9 or 4:3 format)", "a 16:9 or 4:3 format", [("16:9 or 4:3 format", 1.1)]),
        ("a (note: no wheels)", "a note: no wheels", [("note: no wheels", 1.1)]),
        (r"a \(car:red\)", "a (car:red)", []),
        ("a car (a car)", "a car a car", [("a car", 1.1)]),
        ("a smile (:D)", "a smile :D", [(":D", 1.1)]),
        ("at 10:30:1.5)", "at 10:30:1.5)", []),
        ("(at 10:30:1.5)", "at 10:30", [("at 10:30", 1.5)]),
        ("a [red] car", "a [red] car", []),
        ("", "", []),
    ],
)
def test_what_the_hosts_keep_as_text_is_kept(written, positive, emphasised):
    prompt = Prompt.parse(written)
    assert (prompt.positive, weighted(prompt), prompt.negatives) == (positive, emphasised, {})


@pytest.mark.parametrize(
    ("written", "positive"),
    [
        ("a car (x:-1) here", "a car here"),
        ("a car (x:-1)", "a car"),
        ("(x:-1) a car", "a car"),
        ("a car (x:-1), here", "a car, here"),
        ("a car (x:-1) , here", "a car, here"),
        ("car, (x:-1), here", "car, here"),
        ("car,(x:-1),(y:-1),here", "car,here"),
        ("car, (x:-1), (y:-1), here", "car, here"),
        ("(x:-1), a car", "a car"),
        ("a car (x:-1) (y:-1)", "a car"),
        ("car(x:-1) here", "car here"),
        ("a car(x:-1)", "a car"),
        ("a  car , two (x:-1)  here", "a  car , two here"),
        ("a  car ,(y:2)  ", "a  car ,y  "),
        ("(x:-1)", ""),
    ],
)
def test_only_what_a_removed_negative_leaves_behind_is_tidied(written, positive):
    assert Prompt.parse(written).positive == positive


def test_tidying_keeps_the_weights_on_their_words():
    assert Prompt.parse("(red:2) (x:-1), (car:3)") == Prompt(
        "red, car", {"x": 1}, (Emphasis(0, 3, 2), Emphasis(5, 8, 3))
    )


def test_equal_negatives_add_up():
    assert Prompt.parse("a (x:-.5) b ( x :-.5)") == Prompt.parse("a (x:-1) b")
    assert Prompt("a", {"x": 0.5, " x\n": 0.5}) == Prompt("a", {"x": 1})
    assert Prompt.parse("a (x:-1)", {"x": 2, "y": 3}).negatives == {"x": 3, "y": 3}


def test_the_order_of_negatives_does_not_matter():
    one, other = Prompt("a", {"x": 1, "y": 2}), Prompt("a", {"y": 2, "x": 1})
    assert one == other
    assert hash(one) == hash(other)


@pytest.mark.parametrize("negatives", [{"x": 0}, {"x": -0.0}, {"": 1}, {" ": 1}])
def test_a_negative_that_weighs_nothing_or_says_nothing_is_absent(negatives):
    assert Prompt("a", negatives) == Prompt("a")


@pytest.mark.parametrize("written", ["a (x:-0)", "a ((x:-1):0)"])
def test_an_inline_negative_of_weight_0_is_taken_out_and_absent(written):
    assert Prompt.parse(written) == Prompt("a")


def test_brackets_around_a_negative_multiply_its_weight():
    prompt = Prompt.parse("a (red ((x:-2)):1.5) car")
    assert prompt.negatives == {"x": pytest.approx(3.3)}
    assert weighted(prompt) == [("red ", 1.5)]


def test_a_prompt_keeps_its_own_negatives():
    prompt = Prompt("a", mine := {"x": 1.0})
    mine["y"] = 1.0
    assert prompt.negatives == {"x": 1.0}


def test_overlapping_emphases_multiply_and_equal_neighbours_join():
    overlapping = Prompt("a red car", {}, (Emphasis(2, 9, 1.5), Emphasis(2, 5, 2)))
    assert overlapping.emphasis == (Emphasis(2, 5, 3.0), Emphasis(5, 9, 1.5))
    assert Prompt("ab", {}, (Emphasis(1, 2, 2), Emphasis(0, 1, 2))).emphasis == (Emphasis(0, 2, 2.0),)
    assert Prompt("ab", {}, (Emphasis(0, 2, 1),)) == Prompt("ab")
    assert str(Prompt("ab", {}, (Emphasis(0, 2, -0.0),))) == "(ab:0.0)"


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("a (red car", r'^at character 3 of the prompt, "\(red car": this bracket is never closed; add "\)", or'),
        ("a ((red) car", r"^at character 3 .* never closed"),
        (r"a (red\) car", r'^at character 3 .* write "\\\(" for text$'),
        ("a () car", r'^at character 3 of the prompt, "\(\) car": these brackets hold no text'),
        ("a (:1.3)", "^at character 3 .* these brackets hold no text"),
        ("a ( :-1.3)", "^at character 3 .* these brackets hold no text"),
        ("a (red:1,3)", r'^at character 7 of the prompt, ":1,3\)": "1,3" is no weight; write a number such as 1\.3, '),
        (
            "a (wheels:abc)",
            r'^at character 10 of the prompt, ":abc\)": "abc" is no weight; write a number .*"\\\(" and',
        ),
        ("a (wheels: abc )", '^at character 10 .*: "abc" is no weight'),
        ("a (wheels:-abc)", '"-abc" is no weight'),
        ("a (wheels:)", r'^at character 10 of the prompt, ":\)": a weight is missing; write a number'),
        ("a ((red) car:abc)", '^at character 13 .*: "abc" is no weight'),
        ("a (red:10.1)", '"10.1" is no weight; write a number up to 10'),
        ("a (red:1e9)", '"1e9" is no weight; write a number up to 10'),
        ("a (red:-inf)", '"-inf" is no weight; write a number up to 10'),
        ("a (red:1.3.1)", '"1.3.1" is no weight'),
        ("a (red:--1)", '"--1" is no weight'),
        ("a (red:nan)", '"nan" is no weight; write a number up to 10'),
        ("a (red:-1e999)", '"-1e999" is no weight; write a number up to 10'),
        ("a (red (x:2) car:-1)", r"^at character 3 .* a negative holds no brackets of its own"),
        ("a (red (x:-2) car:-1)", "a negative holds no brackets of its own"),
        ("a ((red:4):4)", "product of nested weights has to be a number from 0 to 10, got 16"),
        ("a ((red:-4):4)", 'weight of the negative "red" has to be a number from 0 to 10, got 16'),
        ("a (x:-6) (x:-6)", 'weight of the negative "x" has to be a number from 0 to 10, got 12'),
    ],
)
def test_malformed_brackets_are_refused_with_the_place_and_what_to_do(written, message):
    with pytest.raises(PromptError, match=message):
        Prompt.parse(written)


@pytest.mark.parametrize("weight", [-1, nan, inf, "1", True, None, 10**400, 1e9, 10.01])
def test_a_weight_out_of_the_bounds_of_a_scale_is_refused(weight):
    with pytest.raises(PromptError, match='weight of the negative "x" has to be a number from 0 to 10, got'):
        Prompt.parse("a", {"x": weight})
    with pytest.raises(PromptError, match='weight of "red" has to be a number from 0 to 10, got'):
        Prompt("a red car", {}, (Emphasis(2, 5, weight),))


def test_the_bounds_of_a_weight_are_those_of_a_scale():
    (scale,) = [knob for knob in knobs(ValueSignFlip) if knob.name == "scale"]
    assert (scale.low, scale.high) == (0, LARGEST_WEIGHT)
    assert Prompt("a", {"x": 10}, (Emphasis(0, 1, 10),)) == Prompt.parse("(a:10) (x:-10)")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"positive": None}, "a prompt has to be text, got None"),
        ({"negatives": "wheels"}, "negatives have to be like {\"wheels\": 1.0}, text and weight, got 'wheels'"),
        ({"negatives": {3: 1.0}}, "a negative has to be text, got 3"),
        ({"emphasis": (Emphasis(0, 6, 2),)}, "does not lie within the 5 characters"),
        ({"emphasis": (Emphasis(2, 2, 2),)}, "does not lie within"),
        ({"emphasis": (Emphasis(-1, 2, 2),)}, "does not lie within"),
    ],
)
def test_fields_of_the_wrong_kind_are_refused(fields, message):
    with pytest.raises(PromptError, match=message):
        Prompt(**{"positive": "a car", **fields})


def test_a_prompt_is_written_in_the_inline_spelling():
    prompt = Prompt("a (red) car", {"wheels": 1.2, "(lights)": 0.5}, (Emphasis(8, 11, 1.3),))
    assert str(prompt) == r"a \(red\) (car:1.3) (wheels:-1.2) (\(lights\):-0.5)"
    assert str(Prompt("", {"x": 1})) == "(x:-1.0)"


@settings(max_examples=150)
@given(prompt=prompts())
def test_what_is_written_reads_as_the_same_prompt(prompt):
    assert Prompt.parse(str(prompt)) == prompt


@settings(max_examples=150)
@given(written=st.text(alphabet="ab ,:()\\-.1", max_size=16))
def test_any_text_is_read_or_refused_and_stays_the_same_when_written_again(written):
    prompt = None
    with suppress(PromptError):
        prompt = Prompt.parse(written)
    if prompt is None:
        assert "(" in written, "only an opening bracket can be wrong"
    else:
        assert Prompt.parse(str(prompt)) == prompt


TREES = st.recursive(
    st.text(alphabet="ab :,", min_size=1, max_size=4),
    lambda inner: st.tuples(st.lists(inner, min_size=1, max_size=3), st.sampled_from([0.0, 0.5, 1.0, 1.25])),
    max_leaves=6,
)


@settings(max_examples=100)
@given(trees=st.lists(TREES, max_size=3))
def test_the_weight_of_a_character_is_the_product_of_the_brackets_around_it(trees):
    expected = []

    def write(tree, weight):
        if isinstance(tree, str):
            expected.extend((char, weight) for char in tree)
            return tree
        inner, own = tree
        return f"({''.join(write(part, weight * own) for part in inner)}:{own})"

    prompt = Prompt.parse("".join(write(tree, 1.0) for tree in trees))
    found = [1.0] * len(prompt.positive)
    for part in prompt.emphasis:
        found[part.start : part.stop] = [part.weight] * (part.stop - part.start)
    assert list(zip(prompt.positive, found, strict=True)) == expected
