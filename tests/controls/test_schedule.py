from math import cos, inf, nan, pi

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vsf.controls.schedule import Schedule
from vsf.errors import KnobError

CURVES = ["constant", "linear", "cosine"]
FRACTIONS = st.floats(0, 1)


@st.composite
def schedules(draw, curves=CURVES):
    start, end = sorted((draw(FRACTIONS), draw(FRACTIONS)))
    return Schedule(start, end, draw(st.sampled_from(curves)))


def test_by_default_every_step_and_every_layer_is_guided_in_full():
    schedule = Schedule()
    assert [schedule.strength(step / 4) for step in range(4)] == [1.0] * 4
    assert all(schedule.acts_on(layer, 24) for layer in range(24))


def test_three_quarters_of_eight_steps_are_the_first_six():
    schedule = Schedule(end=0.75)
    assert [schedule.strength(step / 8) for step in range(8)] == [1, 1, 1, 1, 1, 1, 0, 0]


def test_the_linear_curve_falls_straight_from_start_to_end():
    schedule = Schedule(start=0.25, end=0.75, curve="linear")
    assert [schedule.strength(step / 8) for step in range(8)] == [0, 0, 1, 0.75, 0.5, 0.25, 0, 0]


def test_the_cosine_curve_falls_along_half_a_cosine():
    schedule = Schedule(start=0.2, end=0.6, curve="cosine")
    for done in (0.2, 0.25, 0.3, 0.4, 0.55):
        assert schedule.strength(done) == pytest.approx(0.5 + 0.5 * cos(pi * (done - 0.2) / 0.4), abs=1e-12)


@settings(max_examples=50)
@given(schedule=schedules(), done=FRACTIONS)
def test_strength_stays_from_0_to_1_and_is_0_outside_the_window(schedule, done):
    assert 0 <= schedule.strength(done) <= 1
    assert schedule.start <= done < schedule.end or schedule.strength(done) == 0


@settings(max_examples=50)
@given(schedule=schedules(), first=FRACTIONS, second=FRACTIONS)
def test_strength_never_rises_once_it_has_started(schedule, first, second):
    earlier, later = sorted((max(first, schedule.start), max(second, schedule.start)))
    assert schedule.strength(later) <= schedule.strength(earlier) + 1e-12


@settings(max_examples=50)
@given(start=st.floats(0, 0.9), length=st.floats(0.05, 1), curve=st.sampled_from(CURVES))
def test_every_curve_starts_in_full(start, length, curve):
    assert Schedule(start, min(start + length, 1), curve).strength(start) == pytest.approx(1)


@settings(max_examples=50)
@given(start=st.floats(0, 0.9), length=st.floats(0.05, 1), curve=st.sampled_from(["linear", "cosine"]))
def test_the_falling_curves_reach_off_without_a_jump(start, length, curve):
    end = min(start + length, 1)
    assert Schedule(start, end, curve).strength(end - 1e-6) < 1e-4


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize("at", [0, 0.5, 1])
def test_a_window_without_length_is_off(curve, at):
    schedule = Schedule(start=at, end=at, curve=curve)
    assert {schedule.strength(done) for done in (0, 0.25, 0.5, 0.75, 1)} == {0}


@pytest.mark.parametrize(
    ("layers", "named"),
    [
        ("0-2,5", (0, 1, 2, 5)),
        (" 7 , 1 - 3 ,2", (1, 2, 3, 7)),
        ("4", (4,)),
        ("3-3", (3,)),
        ([8, 1, 8], (1, 8)),
        (range(2), (0, 1)),
    ],
)
def test_layers_are_named_by_indices_and_ranges(layers, named):
    schedule = Schedule(layers=layers)
    assert schedule == Schedule(layers=named)
    assert hash(schedule) == hash(Schedule(layers=named))
    assert schedule.layers == named
    assert tuple(layer for layer in range(9) if schedule.acts_on(layer, 9)) == named


@pytest.mark.parametrize(
    "layers", ["", "a", "3-1", "-1", "1-", "1,,2", "0.5", "10000", [], [-1], [1.0], [True], ["x"], 3, 0.5]
)
def test_layers_that_cannot_be_named_are_refused(layers):
    with pytest.raises(KnobError, match=r'indices from 0 and ranges from low to high, such as "0-11,14".*, got'):
        Schedule(layers=layers)


def test_a_layer_that_the_model_does_not_have_is_refused():
    assert Schedule(layers="0-11").acts_on(3, 12)
    with pytest.raises(KnobError, match="layers names layer 12, but the model has 12: 0 to 11"):
        Schedule(layers="0-12").acts_on(3, 12)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"start": -0.1}, "start is a number from 0 to 1, got -0.1"),
        ({"end": 1.5}, "end is a number from 0 to 1, got 1.5"),
        ({"end": nan}, "end is a number from 0 to 1, got nan"),
        ({"end": inf}, "end is a number from 0 to 1, got inf"),
        ({"start": "0"}, "start is a number from 0 to 1, got '0'"),
        ({"end": True}, "end is a number from 0 to 1, got True"),
        ({"start": 0.8, "end": 0.5}, "start has to lie at or before end, got start 0.8 and end 0.5"),
        ({"curve": "cosin"}, "curve is one of constant, linear, cosine, got 'cosin'"),
    ],
)
def test_a_value_out_of_its_range_is_refused_with_what_was_expected(fields, message):
    with pytest.raises(KnobError, match=message):
        Schedule(**fields)


@pytest.mark.parametrize("done", [-0.01, 1.01, nan, None])
def test_a_fraction_that_is_none_is_refused(done):
    with pytest.raises(KnobError, match="the fraction of the steps done is a number from 0 to 1, got"):
        Schedule().strength(done)
