from math import nan

import pytest
import torch

from support.attend import attend
from vsf.attention.layout import Span, TokenLayout
from vsf.errors import KnobError
from vsf.guidance import METHODS, knobs, method
from vsf.guidance.auto import AutoScale, auto_scale

SCALED = [name for name, cls in METHODS.items() if any(knob.name == "scale" for knob in knobs(cls))]
EVERY_SCALED_METHOD = pytest.mark.parametrize("name", SCALED)


def follow(auto, masses):
    """The scales of a run whose negative gets these masses, step by step."""
    scale = auto.first(masses[0])
    scales = [scale]
    for mass in masses:
        scale = auto.next(scale, mass)
        scales.append(scale)
    return torch.cat([scale.flatten()[None] for scale in scales])


@EVERY_SCALED_METHOD
def test_at_the_usual_mass_the_scale_stays_the_default(name):
    auto = auto_scale(method(name))
    scales = follow(auto, [torch.tensor([auto.usual])] * 5)
    torch.testing.assert_close(scales, torch.full((6, 1), auto.knob.default))


@EVERY_SCALED_METHOD
def test_scale_times_mass_settles_where_the_default_has_it_at_the_usual_mass(name):
    auto = auto_scale(method(name))
    low, default = auto.knob.low, auto.knob.default
    mass = torch.tensor([0.5, 1.3, 0.8], dtype=torch.float64) * auto.usual
    scales = follow(auto, [mass] * 40)
    torch.testing.assert_close((scales[-1] - low) * mass, torch.full((3,), (default - low) * auto.usual).double())
    goal = (default - low) * auto.usual / mass
    away = ((scales - low) / goal).log().abs()
    torch.testing.assert_close(away[1:6], away[:5] * (1 - auto.damping))


def test_without_damping_one_step_is_enough():
    auto = AutoScale(auto_scale(method("vsf")).knob, usual=0.1, damping=1.0)
    torch.testing.assert_close(follow(auto, [torch.tensor([0.05, 0.2])])[1], torch.tensor([2.0, 0.5]))


@EVERY_SCALED_METHOD
def test_the_scale_keeps_to_the_range_of_the_knob(name):
    auto = auto_scale(method(name))
    scales = follow(auto, [torch.tensor([1e-30, 1.0, 1e-6])] * 30)
    assert bool(((scales >= auto.knob.low) & (scales <= auto.knob.high)).all())
    assert scales[-1, 0] == auto.knob.high
    assert auto.knob.low <= scales[-1, 1] < auto.knob.default


def test_where_nothing_was_seen_the_scale_stays():
    auto = auto_scale(method("vsf"))
    scale = torch.tensor([1.5, 2.5, 0.7])[:, None, None]
    after = auto.next(scale, torch.tensor([0.0, nan, auto.usual]))
    assert torch.equal(after[:2], scale[:2])
    assert 0.7 < after[2] < 1.0


def test_each_image_has_a_scale_of_its_own_and_equal_runs_are_equal():
    auto, masses = auto_scale(method("nag")), torch.rand(6, 3, generator=torch.Generator().manual_seed(0)) / 10
    together = follow(auto, [*masses])
    assert torch.equal(together, follow(auto, [*masses]))
    for row in range(3):
        assert torch.equal(follow(auto, [*masses[:, row : row + 1]])[:, 0], together[:, row])


def test_nothing_is_read_back_from_the_device():
    auto, mass = auto_scale(method("vsf")), torch.zeros(3, device="meta")  # a tensor that has no numbers to read
    after = auto.next(auto.first(mass), mass)
    assert after.device.type == "meta"
    assert after.shape == (3, 1, 1)


@EVERY_SCALED_METHOD
def test_the_methods_take_the_scale_as_it_comes(name):
    auto, mass = auto_scale(method(name)), torch.tensor([0.03, 0.09])
    scale = auto.next(auto.first(mass), mass)
    layout = TokenLayout((Span("image", 6), Span("positive", 4), Span("negative", 3)))
    query, key, value = torch.randn(3, 2, 2, 13, 8)
    out = attend(method(name, scale=scale), query, key, value, layout)
    for row in range(2):
        own = [tensor[row : row + 1] for tensor in (query, key, value)]
        alone = attend(method(name, scale=float(scale[row])), *own, layout)
        torch.testing.assert_close(out[row : row + 1], alone)


def test_a_method_without_a_scale_is_refused():
    with pytest.raises(KnobError, match=r'^scale="auto" needs a method with a scale, and "none" has none$'):
        auto_scale(method("none"))


@pytest.mark.parametrize("setting", [{"usual": 0.0}, {"usual": 1.0}, {"damping": 0.0}, {"damping": 1.1}])
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(KnobError, match="between 0 and 1, damping above 0 and at most 1, got"):
        AutoScale(auto_scale(method("vsf")).knob, **setting)
