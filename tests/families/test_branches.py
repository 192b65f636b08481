"""Which of a step's two denoiser calls has the positive prompt."""

from contextlib import contextmanager

import torch

from vsf.families.base.branches import Branches

POSITIVE, NEGATIVE = torch.randn(2, 1, 4, 8).unbind()


def told(branches, time, text, name="timestep"):
    return branches.is_unconditional({name: torch.tensor([time])}, text)


def test_the_second_call_of_a_step_with_another_text_is_the_unconditional_one():
    branches = Branches()
    calls = [(9.0, POSITIVE), (9.0, NEGATIVE), (5.0, POSITIVE), (5.0, NEGATIVE)]
    assert [told(branches, *call) for call in calls] == [False, True, False, True]


def test_calls_of_one_text_alone_are_conditional():
    branches = Branches()
    assert not any(told(branches, time, POSITIVE, "t") for time in (9.0, 9.0, 5.0))


def test_views_of_one_text_are_the_same_text():
    branches = Branches()
    assert not any(told(branches, 9.0, text) for text in (POSITIVE[:1], POSITIVE[:1]))


def test_a_new_run_begins_with_its_conditional_call():
    branches = Branches()
    assert not told(branches, 9.0, POSITIVE)
    branches.begin()
    assert not told(branches, 9.0, NEGATIVE)


def test_a_pipeline_that_names_its_calls_is_believed():
    branches, entered = Branches(), []

    @contextmanager
    def original(denoiser, name):
        entered.append((denoiser, name))
        yield

    found = []
    for name in ("uncond", "cond"):
        with branches.cache_context(original, "denoiser", name):
            found.append(told(branches, 9.0, POSITIVE))
    assert found == [True, False]
    assert entered == [("denoiser", "uncond"), ("denoiser", "cond")]


def test_the_name_holds_inside_its_block_alone():
    branches = Branches()

    @contextmanager
    def original(denoiser, name):
        yield

    with branches.cache_context(original, "denoiser", "uncond"):
        pass
    assert not told(branches, 9.0, POSITIVE)
