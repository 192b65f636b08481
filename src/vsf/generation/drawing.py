"""Draw the images of a request, each with the metadata that records how it was made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vsf import errors, patch, tiny
from vsf.controls.schedule import Schedule
from vsf.families import find_family
from vsf.generation import models, video
from vsf.generation.metadata import provenance
from vsf.generation.models import Model, load
from vsf.generation.pictures import open_image, open_mask
from vsf.generation.request import Request
from vsf.generation.sources import check_multiple
from vsf.runtime.report import Report
from vsf.text.prompt import Prompt

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline
    from PIL.Image import Image

Progress = Callable[[int, int, int], None]
"""Called after every step with (image index, steps done, total steps)."""

StepTensors = dict[str, Tensor]
StepCallback = Callable[..., StepTensors]
"""The callback of diffusers, which may change the tensors of the next step."""

NEEDED = ("tokenizer", "tokenizer_2", "text_encoder", "text_encoder_2", "vae")
"""Components that must be loaded if the pipeline has them at all."""


@dataclass(frozen=True)
class Result:
    """A finished image or clip.

    Args:
        image: the picture; of a clip, its first frame.
        metadata: everything needed to draw it again, ready for `provenance.write`.
        prompt: the prompt, and the weight of each negative in the order in which `report` numbers them.
        report: the effect of the guidance.
        mask: where in the picture the negatives acted, a picture or a box; None for everywhere.
        frames: the frames of a clip.
    """

    image: Image
    metadata: dict[str, Any]
    prompt: Prompt
    report: Report
    mask: Image | tuple[float, ...] | None
    frames: Sequence[Image] = ()

    @property
    def negatives(self) -> Mapping[str, float]:
        """The weight of each negative."""
        return self.prompt.negatives


def generate(
    request: Request, *, pipe: DiffusionPipeline | None = None, progress: Progress | None = None, observe: bool = False
) -> list[Result]:
    """Draw `request.count` images, guided by the request's method away from its negative prompt.

    Args:
        request: the prompts and all settings.
        pipe: a pipeline to use as it is. The model, LoRAs, dtype, device and offload of the request then have no
            effect, and the metadata does not name the weights.
        progress: called after every step.
        observe: record in the reports how much the image looked at each negative and how far that changed it; takes
            time.

    Raises:
        RequestError: the model cannot be loaded, or refuses the size or another field.
        VsfError: anything that `vsf.guide` raises.
    """
    model = load(request) if pipe is None else Model(_adapted(pipe, request))
    return list(draw(request, model, progress, observe=observe))


def draw(
    request: Request, model: Model, progress: Progress | None = None, *, observe: bool = False
) -> Iterator[Result]:
    """Draw the images of a request one by one, yielding each as soon as it is finished.

    They are not batched: the batch size changes the last bits, and image i must not depend on `count`.
    """
    pipe = model.pipe
    prompt = request.wanted
    _check_pipe(pipe, request)
    request = request.with_preset(_preset_owner(model))
    arguments = _arguments(request, pipe)
    controls = _controls(request)
    for index in range(request.count):
        seed = request.seed + index
        # On the CPU, whose random numbers are the same on every machine; diffusers moves the noise to the device.
        generator = torch.Generator().manual_seed(seed)
        with patch.guide(pipe, prompt, **controls, observe=observe) as report, _host_errors():
            output = pipe(generator=generator, callback_on_step_end=_step_callback(index, progress), **arguments)
        frames = () if request.frames is None else tuple(output.frames[0])
        image = frames[0] if frames else output.images[0]
        metadata = provenance.describe(request, model, image, seed)
        if frames:
            metadata["frames"] = len(frames)
        yield Result(image, metadata, prompt, report, controls["mask"], frames)


def _preset_owner(model: Model) -> str:
    """Return whose presets apply to a model: its own if it is embedded, otherwise those of its family."""
    name = model.origin.get("model")
    return str(name) if name in tiny.MODELS else find_family(model.pipe).name


def _controls(request: Request) -> dict[str, Any]:
    """Return the arguments of `guide` that say how, when and where the negatives act."""
    assert isinstance(request.schedule, Schedule)
    mask = open_mask(request.mask) if isinstance(request.mask, Path) else request.mask
    controls = {"method": request.guidance(), "schedule": request.schedule, "mask": mask}
    controls |= {"frames": request.frame_range, "seconds": request.seconds}
    if request.seconds is not None:
        controls["fps"] = video.FRAMES_PER_SECOND  # the seconds of the file that the clip is written to
    controls |= {"sound": request.negative_sound, "sound_strength": request.sound_strength}
    context = request.context
    return controls if context is None else controls | {"within": context}


def _adapted(pipe: DiffusionPipeline, request: Request) -> DiffusionPipeline:
    """Return the pipeline that the caller handed over, or its image-to-image version if the request has an image."""
    if request.loras:
        raise errors.RequestError("load the LoRAs onto the pipeline that you hand over; this request cannot add them.")
    return pipe if request.image is None else models.image_to_image(pipe)


def _check_pipe(pipe: DiffusionPipeline, request: Request) -> None:
    """Raise RequestError where diffusers would fail: for a missing part or start image, or too few steps."""
    name = type(pipe).__name__
    missing = [part for part in NEEDED if part in pipe.components and pipe.components[part] is None]
    if missing:
        raise errors.RequestError(
            f"{name} cannot draw from a prompt without its {', '.join(missing)}; "
            "give a model that has every part with --model."
        )
    video.check_frames(pipe, request.frames)
    if request.image is None and ("Img2Img" in name or "Inpaint" in name or "ImageToVideo" in name):
        raise errors.RequestError(f"{name} starts from a picture; give it one with --image.")
    # Stretching a schedule to shift_terminal divides by 1 - its last sigma, which is 0 if the first step is the last.
    if request.steps < 2 and pipe.scheduler.config.get("shift_terminal"):
        raise errors.RequestError("this model's schedule has a first and a last step; ask for at least --steps 2.")


def _arguments(request: Request, pipe: DiffusionPipeline) -> dict[str, Any]:
    """Return the arguments of the pipeline that are the same for every seed."""
    arguments: dict[str, Any] = {
        "prompt": request.wanted.positive,
        "num_inference_steps": request.steps,
        "guidance_scale": request.guidance_scale,
    }
    if request.host_negative:
        arguments["negative_prompt"] = request.host_negative
    size = request.size
    if request.image is not None:
        picture = open_image(request.image, request.size)
        size = picture.size
        arguments["image"] = picture
        # Pipelines of clips keep the picture as their first frame, and take no strength.
        if request.frames is None:
            arguments["strength"] = request.strength
    if request.frames is not None:
        arguments |= {"num_frames": request.frames, "output_type": "pil"}
    if size is not None:
        check_multiple(size, getattr(pipe, "vae_scale_factor", 1) * getattr(pipe, "patch_size", 1))
        arguments |= {"width": size[0], "height": size[1]}
    return arguments


@contextmanager
def _host_errors() -> Iterator[None]:
    """Turn the pipeline's own complaints about its arguments, or a lack of GPU memory, into a RequestError."""
    try:
        yield
    except errors.VsfError:
        raise  # some of ours are ValueErrors, too
    except ValueError as error:
        raise errors.RequestError(f"the pipeline refuses the request: {error}") from error
    except torch.OutOfMemoryError as error:
        raise errors.RequestError("the GPU's memory is too small; offload parts, or ask for a smaller size.") from error


def _step_callback(index: int, progress: Progress | None) -> StepCallback | None:
    """Adapt a progress function to the per-step callback of diffusers."""
    if progress is None:
        return None

    def report_step(pipe: DiffusionPipeline, step: int, _timestep: object, tensors: StepTensors) -> StepTensors:
        progress(index, step + 1, pipe.num_timesteps)
        return tensors

    return report_step
