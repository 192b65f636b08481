"""A schedule follows the run with every scheduler: those that count their steps, and those that do not."""

import math

import diffusers
import numpy
import pytest
import torch
from PIL import Image

import vsf
from families.harness import call
from families.models import tiny_joint, tiny_masked, tiny_unet
from support import tiny_pipelines as tiny
from vsf.families import find_family

COUNTING = ("EulerDiscrete", "EulerAncestralDiscrete", "UniPCMultistep", "DPMSolverMultistep", "LCM", "TCD")
SILENT = ("DDIM", "DDPM", "PNDM", "DDIMParallel")
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
PICTURE = {"image": Image.new("RGB", (16, 8), (200, 30, 30))}
PLAIN = {"guidance_scale": 0.0, "output_type": "latent"}


def made(name, **changes):
    """A scheduler whose timesteps are whole numbers, the same for all: 751, 501, 251, 1."""
    cls = getattr(diffusers, f"{name}Scheduler")
    options = {"steps_offset": 1} if name != "UniPCMultistep" else {"steps_offset": 1, "final_sigmas_type": "zero"}
    spacing = {"timestep_spacing": "leading"}
    if name == "PNDM":
        options["skip_prk_steps"] = True
    if name in ("LCM", "TCD"):
        options, spacing = {}, {}
    return cls(**{**BETAS, **options, **spacing, **changes})


def pipeline(scheduler, cls=diffusers.StableDiffusionPipeline):
    pipe = tiny_unet.pipeline(cls)
    pipe.scheduler = scheduler
    return pipe


@pytest.fixture
def strengths(monkeypatch):
    """The strengths that schedules return, one a denoiser call."""
    returned, strength = [], vsf.Schedule.strength

    def noted(schedule, fraction):
        returned.append(strength(schedule, fraction))
        return returned[-1]

    monkeypatch.setattr(vsf.Schedule, "strength", noted)
    return returned


def follow(pipe, over, **settings):
    """Run under a schedule that falls straight from 1; return the timesteps of the calls."""
    seen = []
    denoiser = getattr(pipe, "unet", None) or pipe.transformer
    handle = denoiser.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(args[1] if len(args) > 1 else kwargs["timestep"]), with_kwargs=True
    )
    with vsf.guide(pipe, "wheels", schedule=vsf.Schedule(curve="linear", over=over)):
        call(pipe, "a red car", **settings)
    handle.remove()
    return [float(torch.as_tensor(timestep).flatten()[0]) for timestep in seen]


def falling(calls):
    return pytest.approx([1 - call / calls for call in range(calls)], abs=1e-12)


def noise_left(timesteps):
    """σ of each step over that of the first, from the betas in float64."""
    betas = numpy.linspace(BETAS["beta_start"] ** 0.5, BETAS["beta_end"] ** 0.5, 1000, dtype=numpy.float64) ** 2
    signal = numpy.cumprod(1 - betas)[[int(timestep) for timestep in timesteps]]
    sigmas = numpy.sqrt((1 - signal) / signal)
    return pytest.approx(list(sigmas / sigmas[0]), rel=1e-5)


@pytest.mark.parametrize("name", [*COUNTING, *SILENT])
def test_every_step_counts_alike_with_every_scheduler(name, strengths):
    calls = 5 if name == "PNDM" else 4  # PNDM calls the model twice for its second timestep
    timesteps = follow(pipeline(made(name)), "steps", **tiny_unet.SETTINGS | {"num_inference_steps": 4})
    assert len(timesteps) == calls
    assert strengths == falling(calls)


@pytest.mark.parametrize("name", [*COUNTING, *SILENT])
def test_the_noise_that_is_left_is_the_same_with_every_scheduler(name, strengths):
    timesteps = follow(pipeline(made(name)), "sigma", **tiny_unet.SETTINGS | {"num_inference_steps": 4})
    assert strengths == noise_left(timesteps)


@pytest.mark.parametrize("name", SILENT)
def test_a_silent_scheduler_gives_what_one_with_the_same_timesteps_gives_that_counts(name, strengths):
    settings = tiny_unet.SETTINGS | {"num_inference_steps": 4}
    counting = follow(pipeline(made("EulerDiscrete")), "sigma", **settings)
    expected = dict(zip(counting, strengths, strict=True))
    strengths.clear()
    timesteps = follow(pipeline(made(name)), "sigma", **settings)
    assert set(timesteps) == set(counting)
    assert strengths == pytest.approx([expected[timestep] for timestep in timesteps], rel=1e-5)


@pytest.mark.parametrize("over", ["steps", "sigma"])
@pytest.mark.parametrize(
    ("name", "strength", "calls"),
    [
        ("EulerDiscrete", 0.5, 2),
        ("LCM", 0.5, 2),
        ("DDIM", 0.5, 2),
        ("DDIM", 0.75, 3),
        ("DDPM", 0.75, 3),
        ("PNDM", 0.75, 4),  # begins with the first of the repeated timesteps
        ("PNDM", 0.5, 3),  # begins with the second of them
        ("PNDM", 0.25, 2),
    ],
)
def test_a_run_over_a_picture_begins_in_full(name, strength, calls, over, strengths):
    pipe = pipeline(made(name), diffusers.StableDiffusionImg2ImgPipeline)
    settings = {**PLAIN, **PICTURE, "num_inference_steps": 4, "strength": strength}
    timesteps = follow(pipe, over, **settings)
    assert len(timesteps) == calls
    assert strengths == (falling(calls) if over == "steps" else noise_left(timesteps))


def test_each_run_begins_anew(strengths):
    pipe = pipeline(made("DDIM"), diffusers.StableDiffusionImg2ImgPipeline)
    for strength, calls in ((0.5, 2), (1.0, 4)):
        strengths.clear()
        follow(pipe, "steps", **{**PLAIN, **PICTURE, "num_inference_steps": 4, "strength": strength})
        assert strengths == falling(calls)


def test_a_run_that_ends_early_counts_all_steps_of_its_scheduler(strengths):
    pipe = tiny_unet.pipeline_xl()
    pipe.scheduler = made("DDIM")
    follow(pipe, "steps", **tiny_unet.SETTINGS | {"num_inference_steps": 4, "denoising_end": 0.5})
    assert strengths == [1.0, 0.75]


def test_pure_noise_in_the_first_step_has_a_finite_sigma(strengths):
    scheduler = made("DDIM", timestep_spacing="trailing", rescale_betas_zero_snr=True)
    follow(pipeline(scheduler), "sigma", **tiny_unet.SETTINGS | {"num_inference_steps": 4})
    assert strengths[0] == 1
    assert strengths == sorted(strengths, reverse=True)
    assert all(math.isfinite(strength) for strength in strengths)


@pytest.mark.parametrize("over", ["steps", "sigma"])
def test_video_and_transformer_pipelines_with_such_schedulers_are_followed(over, strengths):
    pipe = tiny_joint.cogvideox_pipeline()
    pipe.scheduler = diffusers.CogVideoXDDIMScheduler()
    settings = {**tiny_joint.VIDEO, **tiny_joint.CLIP, "num_inference_steps": 3}
    follow(pipe, over, **settings)
    assert len(strengths) == 3
    assert strengths[0] == 1
    assert over == "sigma" or strengths == falling(3)
    strengths.clear()
    pipe = tiny_masked.pixart_pipeline()
    pipe.scheduler = diffusers.DDPMScheduler()
    follow(pipe, over, **{**tiny_masked.PIXART, "num_inference_steps": 3})
    assert len(strengths) == 3
    assert over == "sigma" or strengths == falling(3)


def test_flow_matching_is_followed_as_before(strengths):
    pipe = tiny.sd3()
    timesteps = follow(pipe, "sigma", **tiny.SETTINGS | {"num_inference_steps": 4})
    assert strengths == pytest.approx([timestep / timesteps[0] for timestep in timesteps], abs=1e-6)


def test_a_timestep_that_is_none_of_the_schedulers_is_refused():
    pipe = pipeline(made("DDIM"))
    pipe.scheduler.set_timesteps(4)
    family = find_family(pipe)
    assert family.fraction_done(pipe, "steps", torch.tensor([501, 501]), 751) == 0.25
    for timestep in (3, torch.tensor([501, 251]), None):
        with pytest.raises(vsf.KnobError, match="DDIMScheduler does not tell at which step it is"):
            family.fraction_done(pipe, "steps", timestep, 751)


# One step ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheduler", ["FlowMatchEulerDiscrete", "FlowMatchLCM"])
def test_a_single_step_where_the_scheduler_needs_two_is_refused_by_number(scheduler):
    pipe = tiny.sd3()
    pipe.scheduler = getattr(diffusers, f"{scheduler}Scheduler")(shift_terminal=0.1)
    with vsf.guide(pipe, "wheels"), pytest.raises(vsf.RequestError, match="ask for num_inference_steps=2 or more"):
        tiny.call(pipe, num_inference_steps=1)
    vsf.attach(pipe)
    with pytest.raises(vsf.RequestError, match="num_inference_steps=2"):
        tiny.call(pipe, negative_prompt="wheels", num_inference_steps=1)
    assert len(tiny.call(pipe, negative_prompt="wheels", num_inference_steps=2)) == 1
    vsf.detach(pipe)


def test_a_single_step_is_drawn_where_the_scheduler_can():
    pipe = tiny.sd3()
    with vsf.guide(pipe, "wheels") as report:
        tiny.call(pipe, num_inference_steps=1)
    assert report.steps == 1
    pipe.scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift_terminal=0.1)
    with vsf.guide(pipe, "wheels") as report:
        tiny.call(pipe, num_inference_steps=1, sigmas=[0.7])
    assert report.steps == 1
