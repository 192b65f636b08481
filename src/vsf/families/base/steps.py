"""The place of a denoiser call in a scheduler's run, and the noise that is gone by then."""

from typing import Any

import torch
from torch import Tensor

from vsf.controls.schedule import Axis
from vsf.errors import KnobError, RequestError
from vsf.families.base.host import CallArguments, Pipeline

Timestep = float | Tensor
"""A denoiser call's time: a number, or a tensor with one for each row."""

_SMALLEST_SIGNAL = 2**-24
"""Replaces an ᾱ of 0, pure noise, whose σ would be infinite; diffusers' own schedulers use this number too."""


def fraction_done(pipe: Pipeline, over: Axis, timestep: Timestep | None, first: Timestep | None) -> float:
    """Return the fraction of a run's steps, or of its noise, that is done before a denoiser call.

    Both timesteps are read only for schedulers that keep no count of their steps.

    Args:
        pipe: holds the scheduler.
        over: count steps or noise.
        timestep: of the call.
        first: timestep of the run's first call. A run that starts from a picture (img2img) begins late in the
            scheduler's timesteps.

    Raises:
        KnobError: the scheduler does not tell.
    """
    scheduler = pipe.scheduler
    if hasattr(scheduler, "step_index"):
        begin = getattr(scheduler, "begin_index", None) or 0  # set where a run starts from a picture
        # The scheduler counts from its own first step on, and has no count before it.
        step = begin if scheduler.step_index is None else scheduler.step_index
    elif hasattr(scheduler, "counter"):
        begin = _begin_index(pipe, first)
        step = begin + scheduler.counter
    else:
        begin = _begin_index(pipe, first)
        step = _indices_of(scheduler, timestep)[0]
    if over == "sigma":
        return float(1 - _sigma(scheduler, step) / _sigma(scheduler, begin))
    return float((step - begin) / (len(scheduler.timesteps) - begin))


def check_step_count(pipe: Pipeline, arguments: CallArguments) -> None:
    """Refuse a single step on a scheduler that stretches its noise levels between a first and a last one.

    The stretching would divide by zero, and diffusers would end in an IndexError that does not say why.

    Raises:
        RequestError: there is one step, and the scheduler has `shift_terminal`.
    """
    scheduler = getattr(pipe, "scheduler", None)
    if arguments.get("num_inference_steps") != 1 or arguments.get("sigmas") is not None:
        return
    if getattr(getattr(scheduler, "config", None), "shift_terminal", None):
        raise RequestError(
            f"this pipeline's {type(scheduler).__name__} has shift_terminal, a first and a last noise level: "
            "ask for num_inference_steps=2 or more"
        )


def _begin_index(pipe: Pipeline, first: Timestep | None) -> int:
    """Return the index of a run's first call among the scheduler's timesteps.

    A timestep may occur several times; the index that leaves as many steps as the pipeline makes is the right one.
    """
    indices = _indices_of(pipe.scheduler, first)
    steps = len(pipe.scheduler.timesteps)
    expected = steps - getattr(pipe, "num_timesteps", steps)
    return expected if expected in indices else indices[0]


def _indices_of(scheduler: Any, timestep: Timestep | None) -> list[int]:
    """Return the indices of a timestep among the scheduler's. Raises KnobError where it is not among them."""
    timesteps = getattr(scheduler, "timesteps", None)
    if timesteps is None or timestep is None:
        raise _unknown(scheduler, "at which step it is")
    times = torch.as_tensor(timestep, device=timesteps.device).flatten()
    indices = (timesteps == times[0]).nonzero().flatten().tolist()
    if not indices or not bool((times == times[0]).all()):
        raise _unknown(scheduler, f"at which step it is (timestep {times.unique().tolist()})")
    return indices


def _sigma(scheduler: Any, step: int) -> Tensor:
    """Return the noise over the signal, σ, of a step. Raises KnobError where the scheduler does not tell."""
    if hasattr(scheduler, "sigmas"):
        return scheduler.sigmas[step]
    if not hasattr(scheduler, "alphas_cumprod"):
        raise _unknown(scheduler, "how much noise is left")
    signal = scheduler.alphas_cumprod[int(scheduler.timesteps[step])].clamp(min=_SMALLEST_SIGNAL)
    return ((1 - signal) / signal).sqrt()


def _unknown(scheduler: Any, what: str) -> KnobError:
    return KnobError(
        f"{type(scheduler).__name__} does not tell {what}, "
        "so start, end and curve of a schedule cannot be followed; use another scheduler, or leave them out"
    )
