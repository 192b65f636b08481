"""Arguments keep their places: users' hooks count on them."""

import pytest
import torch

import vsf
from families.models import tiny_unet
from support import tiny_pipelines as tiny
from vsf.patching.arguments import Arguments


class Host:
    def named(self, a, b, c=3, *, d=4):
        return a, b, c, d

    def open(self, a, *others, **more):
        return a, others, more


def test_what_came_by_its_place_stays_there_with_its_new_value():
    given = Arguments.of(Host.named, (1, 2), {"d": 5})
    assert given.values == {"a": 1, "b": 2, "d": 5}
    assert given.call(lambda *args, **kwargs: (args, kwargs), {**given.values, "b": 7, "c": 8}) == (
        (1, 7),
        {"c": 8, "d": 5},
    )


def test_arguments_without_a_name_go_on():
    given = Arguments.of(Host.open, (1, 2, 3), {"more": 4})
    assert given.call(Host().open, given.values) == (1, (2, 3), {"more": 4})


@pytest.mark.parametrize(("args", "kwargs", "match"), [((1, 2, 3, 4), {}, "too many"), ((1,), {"a": 2}, "multiple")])
def test_wrong_arguments_are_refused_as_the_call_would(args, kwargs, match):
    with pytest.raises(TypeError, match=match):
        Arguments.of(Host.named, args, kwargs)


def test_a_forward_pre_hook_sees_the_arguments_where_the_pipeline_puts_them():
    pipe, seen = tiny_unet.pipeline(), []
    pipe.unet.register_forward_pre_hook(lambda module, args: seen.append([type(each) for each in args[:2]]))
    settings = {**tiny_unet.SETTINGS, "num_inference_steps": 1}
    pipe("a red car", **settings)
    with vsf.guide(pipe, "wheels"):
        pipe("a red car", **settings)
    assert seen[0] == seen[1]
    assert len(seen[0]) == 2


def test_a_denoiser_called_by_place_gets_the_negatives_in_the_text():
    model, shapes = tiny.sd3_transformer(), []
    model.register_forward_pre_hook(lambda module, args: shapes.append([tuple(each.shape) for each in args]))
    inputs = torch.randn(1, 4, 8, 8), torch.randn(1, 5, 32), torch.randn(1, 32), torch.tensor([500.0])
    with vsf.guide(model, negative=vsf.Negative((torch.randn(3, 32),))):
        model(*inputs)
    assert shapes == [[(1, 4, 8, 8), (1, 8, 32), (1, 32), (1,)]]


def test_a_pipeline_that_hands_on_whatever_it_gets_is_guided():
    class Open(tiny.StableDiffusion3Pipeline):
        def __call__(self, *args, **kwargs):
            return super().__call__(*args, **kwargs)

    pipe, generator = tiny.sd3(Open), torch.Generator()
    with vsf.guide(pipe, "wheels") as report:
        by_place = pipe("a red car", generator=generator.manual_seed(0), **tiny.SETTINGS)[0]
        by_name = pipe(prompt="a red car", generator=generator.manual_seed(0), **tiny.SETTINGS)[0]
    assert report.steps == 4
    assert torch.equal(by_place, by_name)


def test_a_negative_prompt_given_by_its_place_leaves_the_others_in_theirs():
    pipe = tiny.sd3()
    settings = {key: value for key, value in tiny.SETTINGS.items() if key not in ("height", "width")}
    vsf.attach(pipe)
    by_name = tiny.call(pipe, negative_prompt="wheels")
    signature = ["a red car", None, None, 8, 8, *[None] * 3]
    by_place = pipe(*signature[:5], negative_prompt="wheels", generator=torch.Generator().manual_seed(0), **settings)[0]
    assert torch.equal(by_place, by_name)
