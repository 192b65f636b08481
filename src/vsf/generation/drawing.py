"""Draw the images of a request, each with the metadata that says how it was made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

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

if TYPE_CHECKING:
    from PIL.Image import Image

Progress = Callable[[int, int, int], None]
"""Called after every step with (image index, steps done, steps in all)."""


NEEDED = ("tokenizer", "tokenizer_2", "text_encoder", "text_encoder_2", "vae")  # where a pipeline has them at all


@dataclass(frozen=True)
class Result:
    """A finished image, its metadata, ready for `provenance.write`, and what the negatives did to it.

    `negatives` has the weight of each in the order in which `report` numbers them; `mask`, a picture or a box, says
    where in the picture they act. A clip has `frames`, and `image` is the first of them.
    """

    image: Image
    metadata: dict[str, Any]
    negatives: Mapping[str, float]
    report: Report
    mask: Image | tuple[float, ...] | None
    frames: Sequence[Image] = ()


def generate(
    request: Request, *, pipe: Any = None, progress: Progress | None = None, observe: bool = False
) -> list[Result]:
    """Draw `request.count` images, guided by the request's method away from its negative prompt.

    A pipeline handed over as `pipe` is used as it is; the request's model, LoRAs, dtype, device and offload then have
    no say, and the metadata does not name the weights. With `observe` the reports of the results say how much the
    image looked at each negative and what that changed, which takes time.

    Raises:
        RequestError: the model cannot be loaded, or refuses the size or another field.
        VsfError: whatever `vsf.guide` raises.
    """
    model = load(request) if pipe is None else Model(_as_asked(pipe, request))
    return list(draw(request, model, progress, observe=observe))


def draw(
    request: Request, model: Model, progress: Progress | None = None, *, observe: bool = False
) -> Iterator[Result]:
    """Draw the images of a request one by one, so that each is at hand as soon as it is finished.

    They are not batched: the size of a batch moves the last bits, and image i must not depend on `count`.
    """
    pipe, wanted = model.pipe, request.wanted
    _check_pipe(pipe, request)
    request = request.with_preset(_preset_owner(model))
    arguments, controls = _arguments(request, pipe), _controls(request)
    for index in range(request.count):
        seed = request.seed + index
        generator = torch.Generator().manual_seed(seed)
        with patch.guide(pipe, wanted, **controls, observe=observe) as report, _host_errors():
            output = pipe(generator=generator, callback_on_step_end=_ticker(index, progress), **arguments)
        frames = () if request.frames is None else tuple(output.frames[0])
        image = frames[0] if frames else output.images[0]
        metadata = provenance.describe(request, model, image, seed) | ({"frames": len(frames)} if frames else {})
        yield Result(image, metadata, wanted.negatives, report, controls["mask"], frames)


def _preset_owner(model: Model) -> str:
    """Whose presets serve a model: its family's, or its own where it is embedded."""
    name = model.origin.get("model")
    return str(name) if name in tiny.MODELS else find_family(model.pipe).name


def _controls(request: Request) -> dict[str, Any]:
    """How, when and where the negatives act, as `guide` takes it."""
    assert isinstance(request.schedule, Schedule)
    mask = open_mask(request.mask) if isinstance(request.mask, Path) else request.mask
    how = {"method": request.guidance(), "schedule": request.schedule, "mask": mask}
    return how if request.context is None else how | {"within": request.context}


def _as_asked(pipe: Any, request: Request) -> Any:
    if request.loras:
        raise errors.RequestError("load the LoRAs onto the pipeline that you hand over; this request cannot add them.")
    return pipe if request.image is None else models.image_to_image(pipe)


def _check_pipe(pipe: Any, request: Request) -> None:
    """Refuse what the pipeline would stumble over: parts it has not, and a picture that it wants and nobody gave."""
    name = type(pipe).__name__
    if missing := [part for part in NEEDED if part in pipe.components and pipe.components[part] is None]:
        raise errors.RequestError(
            f"{name} cannot draw from a prompt without its {', '.join(missing)}; "
            "give a model that has every part with --model."
        )
    video.check_frames(pipe, request.frames)
    if request.image is None and ("Img2Img" in name or "Inpaint" in name or "ImageToVideo" in name):
        raise errors.RequestError(f"{name} starts from a picture; give it one with --image.")
    if request.steps < 2 and pipe.scheduler.config.get("shift_terminal"):
        raise errors.RequestError("this model's schedule has a first and a last step; ask for at least --steps 2.")


def _arguments(request: Request, pipe: Any) -> dict[str, Any]:
    """What every call of the pipeline gets, whichever the seed."""
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
        arguments |= {"image": picture} if request.frames else {"image": picture, "strength": request.strength}
    if request.frames is not None:
        arguments |= {"num_frames": request.frames, "output_type": "pil"}
    if size is not None:
        check_multiple(size, getattr(pipe, "vae_scale_factor", 1) * getattr(pipe, "patch_size", 1))
        arguments |= {"width": size[0], "height": size[1]}
    return arguments


@contextmanager
def _host_errors() -> Iterator[None]:
    """Turn what the pipeline raises about its own arguments, or for lack of memory, into a RequestError."""
    try:
        yield
    except errors.VsfError:
        raise
    except ValueError as error:
        raise errors.RequestError(f"the pipeline refuses the request: {error}") from error
    except torch.OutOfMemoryError as error:
        raise errors.RequestError("the GPU's memory is too small; offload parts, or ask for a smaller size.") from error


def _ticker(index: int, progress: Progress | None) -> Callable[..., dict[str, Any]] | None:
    """The per-step callback of diffusers, reduced to (image, steps done, steps in all)."""
    if progress is None:
        return None

    def tick(pipe: Any, step: int, _timestep: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        progress(index, step + 1, pipe.num_timesteps)
        return kwargs

    return tick
