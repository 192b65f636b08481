"""Negatives that act in a part of a clip's time, by the clock of each family."""

from functools import partial

import pytest
import torch

import vsf
from families.harness import STRONG, difference, registered
from families.models import (
    tiny_cosmos,
    tiny_joint,
    tiny_kandinsky6,
    tiny_ltx2,
    tiny_masked,
    tiny_minimax_h3,
    tiny_per_block_pipelines,
    tiny_skyreels_v2,
    tiny_wan,
    tiny_wan_animate,
)
from support import tiny_pipelines as tiny
from support.every_method import EVERY_METHOD
from vsf.families import FAMILIES, find_family
from vsf.runtime.run import Run

CLIPS = [case for case in registered("CASES") if case.grid and len(case.grid) == 3 and case.family != "qwen_image"]
IN_SECTIONS = ("framepack", "wan animate", "helios")
WAN = {**tiny_wan.SETTINGS, **tiny_wan.TEXT}


def video(pipe, **settings):
    return pipe("a red car", generator=torch.Generator().manual_seed(0), **{**WAN, **settings}).frames


def guided_video(pipe, settings, **when):
    with vsf.guide(pipe, "wheels", method=STRONG, **when):
        return video(pipe, **settings)


def changes(clip, other):
    """How far each latent frame is from that of another clip (batch, channels, frames, height, width)."""
    return (clip - other).movedim(2, 0).flatten(1).norm(dim=1)


# Where it acts ------------------------------------------------------------------------------------------------------


@EVERY_METHOD
@torch.no_grad()
def test_one_layer_leaves_frames_outside_of_the_range_as_they_are_to_the_last_bit(method):
    model = tiny_wan.transformer(num_layers=1)
    case = tiny_wan.CASES[0]
    inputs = case.inputs(case.text())
    inputs["hidden_states"] = torch.randn(1, 16, 5, 4, 6, generator=torch.Generator().manual_seed(1))
    plain = model(**inputs).sample
    negative = vsf.Negative((case.text(7, seed=100)[0],))
    with vsf.guide(model, negative=negative, method=method, frames=(5, 13)):
        guided = model(**inputs).sample
    assert (changes(guided, plain) == 0).tolist() == [True, True, False, False, True]


@EVERY_METHOD
def test_a_clip_changes_where_the_negative_acts_far_more_than_elsewhere(method):
    """Some 20 to 30 times in this model of two layers: what a layer changes in one frame, the next one sees in all."""
    pipe = tiny_wan.pipeline()
    plain = video(pipe, num_frames=25)
    with vsf.guide(pipe, "wheels", method=method, seconds=(0, 0.8125), fps=16):  # 13 frames of 25
        first_half, last_half = changes(video(pipe, num_frames=25), plain).split([4, 3])
    assert first_half.mean() >= 5 * last_half.mean()
    with vsf.guide(pipe, "wheels", method=method, frames=(13, None)):
        first_half, last_half = changes(video(pipe, num_frames=25), plain).split([4, 3])
    assert last_half.mean() >= 5 * first_half.mean()


def test_all_of_the_time_is_no_range_at_all():
    pipe = tiny_wan.pipeline()
    everywhere = guided_video(pipe, {})
    assert difference(guided_video(pipe, {}, frames=(0, 5)), everywhere) <= 1e-6
    assert difference(guided_video(pipe, {}, mask=torch.ones(5, 1, 1)), everywhere) <= 1e-6


def test_a_mask_may_differ_from_frame_to_frame():
    pipe = tiny_wan.pipeline()
    mask = torch.zeros(5, 2, 2)
    mask[1:] = 1
    assert torch.equal(guided_video(pipe, {}, mask=mask), guided_video(pipe, {}, frames=(1, None)))


def test_the_method_that_calls_the_model_twice_keeps_to_the_range_to_the_last_bit():
    pipe = tiny_wan.pipeline(model=partial(tiny_wan.transformer, num_layers=1))
    plain = video(pipe, num_inference_steps=1)
    with vsf.guide(pipe, "wheels", method="cfg", frames=(0, 1)):
        clip = video(pipe, num_inference_steps=1)
    assert (changes(clip, plain) == 0).tolist() == [False, True]


def test_an_attached_pipeline_may_go_on_with_another_time():
    pipe = tiny_wan.pipeline()
    first, last = guided_video(pipe, {}, frames=(0, 1)), guided_video(pipe, {}, seconds=(0.0625, 9), fps=16)
    vsf.attach(pipe, method=STRONG, frames=(0, 1))
    assert torch.equal(video(pipe, negative_prompt="wheels"), first)
    vsf.attach(pipe, method=STRONG, seconds=(0.0625, None), fps=16)
    assert torch.equal(video(pipe, negative_prompt="wheels"), last)
    vsf.detach(pipe)


# Other negatives at other times ------------------------------------------------------------------------------------


@EVERY_METHOD
@torch.no_grad()
def test_each_negative_has_the_frames_that_are_its_own(method):
    """Of one layer: each part of the clip is to the last bit or nearly as under its own negative alone."""
    pipe = tiny_wan.pipeline(model=partial(tiny_wan.transformer, num_layers=1))
    settings = {"num_frames": 13, "num_inference_steps": 1}
    plain = video(pipe, **settings)

    def guided(negatives, **when):
        with vsf.guide(pipe, negatives, method=method, **when):
            return video(pipe, **settings)

    rain, fog = guided("rain"), guided("fog")
    together = guided({"rain": 1.0, "fog": 1.0}, frames={"rain": (0, 1), "fog": (1, 9)})
    assert changes(together, rain)[0] <= 1e-5 * changes(rain, plain)[0]
    assert (changes(together, fog)[1:3] <= 1e-5 * changes(fog, plain)[1:3]).all()
    assert torch.equal(together[:, :, 3], plain[:, :, 3])
    assert changes(rain, fog).min() > 1e-4


def test_a_negative_that_is_not_named_acts_all_the_time_and_places_are_like_times():
    pipe = tiny_wan.pipeline()

    def guided(negatives, **where):
        with vsf.guide(pipe, negatives, method=STRONG, **where):
            return video(pipe)

    both = {"rain": 1.0, "fog": 0.5}
    assert difference(guided(both, seconds={"rain": (0, 9)}, fps=16), guided(both)) <= 1e-6
    confined = guided(both, mask={"fog": (0, 0, 0.5, 1)}, frames={"fog": (0, 1)})
    assert difference(confined, guided(both)) > 1e-4
    assert difference(confined, guided("rain")) > 1e-4


def test_a_place_for_a_negative_that_is_not_there_is_refused():
    pipe = tiny_wan.pipeline()
    refused = pytest.raises(vsf.KnobError, match=r'no negative is "snow", .* the negatives are "fog", "rain"')
    with refused, vsf.guide(pipe, {"rain": 1.0, "fog": 1.0}, frames={"snow": (0, 1)}):
        video(pipe)
    negative = vsf.Negative((torch.zeros(3, 32),))
    refused = pytest.raises(vsf.KnobError, match="the negatives are not known")
    with refused, vsf.guide(pipe, negative=negative, frames={"snow": (0, 1)}):
        video(pipe)
    refused = pytest.raises(vsf.KnobError, match='method "cfg" knows one negative for each prompt here')
    with refused, vsf.guide(pipe, "rain", method="cfg", frames={"rain": (0, 1)}):
        pass


# The clocks of families ---------------------------------------------------------------------------------------------


def test_every_family_of_clips_has_a_usual_rate_and_no_other_has():
    of_clips = {name for name in FAMILIES if FAMILIES[name].clip_rate is not None}
    assert of_clips == {case.family for case in CLIPS}


@pytest.mark.parametrize("case", [case for case in CLIPS if str(case) not in IN_SECTIONS], ids=str)
def test_every_denoiser_of_clips_keeps_to_a_range(case):
    model, text = case.model(), case.text()
    plain, negative = case.run(model, text), vsf.Negative((case.text(7, seed=100)[0],))

    def guided(**when):
        with vsf.guide(model, negative=negative, method=STRONG, **when):
            return case.run(model, text)

    first, last, always = guided(frames=(0, 1)), guided(frames=(1, None)), guided()
    assert (difference(guided(frames=(0, None)), always) <= 1e-6) == case.alone
    for clip in (first, last):
        assert difference(clip, plain) > 1e-4
        assert difference(clip, always) > 1e-4


@pytest.fixture
def clocks(monkeypatch):
    """Collects the clock of every denoiser call."""
    seen = []
    real = Run.timed

    def timed(run, grid, denoiser):
        grid = real(run, grid, denoiser)
        seen.append((grid.clock.covered, grid.clock.rate))
        return grid

    monkeypatch.setattr(Run, "timed", timed)
    return seen


SMALL = {"num_inference_steps": 1, "output_type": "latent"}
TOLD = {
    "ltx": (tiny_masked.ltx_pipeline, {"height": 64, "width": 64, "num_frames": 17, **SMALL}, (1, 8, 8), 25),
    "ltx2": (tiny_ltx2.pipeline, {**tiny_ltx2.SETTINGS, "frame_rate": 30.0}, None, 30),
    "kandinsky6": (tiny_kandinsky6.pipeline, tiny_kandinsky6.ALONE, (1, 4), 24),
    "skyreels_v2": (tiny_skyreels_v2.forced, {**WAN, "fps": 12}, (1, 4), 12),
    "cosmos": (tiny_cosmos.VARIANTS[2].build, tiny_cosmos.VARIANTS[2].settings, (1, 4), 16),
    "cosmos 1": (tiny_cosmos.VARIANTS[0].build, {**tiny_cosmos.VARIANTS[0].settings, "fps": 12}, (1, 8), 12),
    "minimax_h3": (tiny_minimax_h3.pipeline, tiny_minimax_h3.SETTINGS, (*(1, 4, 4, 4, 4) * 7, 1, 4), 24),
}


@pytest.mark.parametrize("name", TOLD)
def test_seconds_need_no_rate_where_the_call_tells_it(clocks, name):
    build, settings, covered, rate = TOLD[name]
    pipe = build()
    with vsf.guide(pipe, "wheels", method=STRONG, seconds=(0, 0.02)):
        pipe(prompt="a red car", generator=torch.Generator().manual_seed(0), **settings)
    assert {told for _, told in clocks} == {rate}
    if covered is not None:
        assert {frames for frames, _ in clocks} == {covered}


def test_where_nothing_tells_the_rate_it_is_asked_for_before_anything_runs():
    pipe = tiny_wan.pipeline()
    with pytest.raises(vsf.KnobError, match="give fps=; 16 is usual"):
        guided_video(pipe, {"num_inference_steps": "not reached"}, seconds=(0, 1))


def test_reference_pictures_of_vace_are_no_part_of_the_clip(clocks):
    pipe = tiny_wan.pipeline(tiny_wan.WanVACEPipeline, tiny_wan.vace_transformer)
    settings = {**tiny_wan.CLIP, "reference_images": [tiny_wan.FRAME], "num_inference_steps": 1}
    guided_video(pipe, settings, frames=(0, 1))
    assert clocks == [((0, 1, 4), None)]


def test_frames_given_as_conditions_are_no_part_of_the_clip():
    family, pipe = find_family(tiny_masked.ltx()), tiny_masked.ltx_pipeline()
    covered = family.clip_frames(pipe.transformer, pipe, {"num_frames": 9}, 4)
    assert covered == (0, 0, 1, 8)


def test_two_latent_frames_of_cogvideox_share_a_token_and_are_filled_up_in_front(clocks):
    pipe = tiny_joint.cogvideox_pipeline(patch_size_t=2, use_rotary_positional_embeddings=True, sample_frames=9)
    settings = {"height": 32, "width": 48, "guidance_scale": 1.0, "max_sequence_length": 24, **SMALL}
    for frames in (9, 13, None):  # None: as many as the model was made for
        with vsf.guide(pipe, "wheels", method=STRONG, frames=(0, 1)):
            pipe("a red car", num_frames=frames, generator=torch.Generator().manual_seed(0), **settings)
    assert [covered for covered, _ in clocks] == [(1, 8), (5, 8), (1, 8)]


def continued():
    return tiny_skyreels_v2.forced("SkyReelsV2DiffusionForcingVideoToVideoPipeline")


# Where no time is known ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (tiny.sd3, "StableDiffusion3Pipeline draws no clips"),
        (tiny.sd3_transformer, "SD3Transformer2DModel draws no clips"),
        (tiny_per_block_pipelines.framepack_pipeline, "HunyuanVideoFramepackPipeline makes its clip piece by piece"),
        (tiny_per_block_pipelines.framepack, "HunyuanVideoFramepackTransformer3DModel makes its clip piece by piece"),
        (tiny_cosmos.transfer, "Cosmos2_5_TransferPipeline makes its clip piece by piece"),
        (tiny_wan_animate.pipeline, "WanAnimatePipeline makes its clip piece by piece"),
        (continued, "SkyReelsV2DiffusionForcingVideoToVideoPipeline makes its clip piece by piece"),
    ],
    ids=[
        "picture",
        "denoiser of pictures",
        "framepack",
        "its denoiser",
        "cosmos transfer",
        "wan animate",
        "a video that goes on",
    ],
)
@pytest.mark.parametrize("when", [{"frames": (0, 1)}, {"seconds": (0, 1)}, {"mask": torch.ones(2, 1, 1)}], ids=str)
def test_a_time_is_refused_by_name_where_none_is_known(target, message, when):
    with pytest.raises(vsf.KnobError, match=message), vsf.guide(target(), None, **when):
        pass


def test_long_clips_of_skyreels_are_refused_before_anything_runs():
    pipe = tiny_skyreels_v2.forced()
    long = {"num_frames": 17, "base_num_frames": 9, "overlap_history": 5, "num_inference_steps": "not reached"}
    with pytest.raises(vsf.KnobError, match="SkyReelsV2DiffusionForcingPipeline makes its clip piece by piece"):
        guided_video(pipe, long, frames=(0, 1))
