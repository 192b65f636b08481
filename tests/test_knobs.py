from math import inf, nan

import pytest
import torch

from vsf.errors import KnobError, UnknownNameError
from vsf.guidance import METHODS, ValueSignFlip, knobs, method


def test_knobs_are_listed_with_default_range_and_help():
    scale, offset, layout, orthogonal, special_tokens = knobs(ValueSignFlip)
    assert (scale.name, scale.default, scale.low, scale.high) == ("scale", 1.0, 0.0, 10.0)
    assert (offset.name, offset.default, offset.low, offset.high) == ("offset", 0.0, -5.0, inf)
    assert (layout.default, layout.choices) == ("paper", ("paper", "reference"))
    assert (orthogonal.default, orthogonal.choices) == (False, (False, True))
    assert (special_tokens.default, special_tokens.choices) == ("keep", ("keep", "strip"))
    assert all(knob.help.endswith(".") for cls in METHODS.values() for knob in knobs(cls))


def test_by_name_or_by_class_is_the_same_method():
    assert method("vsf", scale=1.1, offset=-0.6, layout="paper") == ValueSignFlip(scale=1.1, offset=-0.6)


@pytest.mark.parametrize("name", METHODS)
def test_every_default_and_every_limit_is_allowed(name):
    for knob in knobs(METHODS[name]):
        for value in knob.choices or (knob.low, knob.high, knob.default):
            assert getattr(method(name, **{knob.name: value}), knob.name) == value


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"scale": 10.1}, r'scale is a number from 0 to 10, or "auto", got 10\.1'),
        ({"scale": -0.1}, r"scale is a number from 0 to 10, or \"auto\", got -0\.1"),
        ({"scale": nan}, "got nan"),
        ({"scale": "1"}, "got '1'"),
        ({"scale": True}, "got True"),
        ({"scale": torch.tensor(1)}, r"got tensor\(1\)"),
        ({"offset": -6}, "offset is a number from -5 to inf, got -6"),
        ({"layout": "papers"}, "layout is one of 'paper', 'reference', got 'papers'"),
        ({"orthogonal": 1}, "orthogonal is one of False, True, got 1"),
        ({"special_tokens": None}, "got None"),
    ],
)
def test_a_value_that_is_not_allowed_is_refused(setting, message):
    with pytest.raises(KnobError, match=message):
        method("vsf", **setting)
    with pytest.raises(KnobError, match=message):
        ValueSignFlip(**setting)


def test_a_tensor_is_taken_as_it_is():
    scale = torch.tensor(99.0)
    assert ValueSignFlip(scale=scale).scale is scale


def test_an_unknown_knob_lists_the_known_ones_and_suggests_the_closest():
    known = "scale, offset, layout, orthogonal, special_tokens"
    with pytest.raises(
        KnobError, match=rf'^method "vsf" has no knob "scael"\. Known: {known}\. Did you mean "scale"\?$'
    ):
        method("vsf", scael=1.0)


def test_a_method_without_knobs_says_so():
    with pytest.raises(KnobError, match=r'^method "none" has no knob "scale"\. Known: none\.$'):
        method("none", scale=1.0)


def test_an_unknown_method_is_refused_by_name():
    with pytest.raises(
        UnknownNameError, match=r'unknown method "vfs"\. Known: none, vsf, vsf-centred, nag, nasa, ong, negpip, cfg\.'
    ):
        method("vfs")
