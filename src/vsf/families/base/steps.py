"""Where in a scheduler's run a denoiser call stands, and how much noise is gone by then."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vsf.controls.schedule import Axis
from vsf.errors import KnobError, RequestError

_SMALLEST_SIGNAL = 2**-24
"""In place of an ᾱ of 0, pure noise, whose σ would be infinite; diffusers' own schedulers put this there too."""


def fraction_done(pipe: Any, over: Axis, timestep: Any, first: Any) -> float:
    """Tell which fraction of a run's steps, or of its noise, is done before a denoiser call at `timestep`.

    `first` is the timestep of the run's first call: where a picture is drawn over another one, a run begins late in
    the scheduler's timesteps. Both are only looked at for schedulers that keep no count of their steps.

    Raises:
        KnobError: the scheduler does not tell.
    """
    scheduler = pipe.scheduler
    if hasattr(scheduler, "step_index"):
        begin = getattr(scheduler, "begin_index", None) or 0
        step = begin if scheduler.step_index is None else scheduler.step_index
    else:
        begin = _begin(pipe, first)
        step = begin + scheduler.counter if hasattr(scheduler, "counter") else _places(scheduler, timestep)[0]
    if over == "sigma":
        return float(1 - _sigma(scheduler, step) / _sigma(scheduler, begin))
    return float((step - begin) / (len(scheduler.timesteps) - begin))


def check_step_count(pipe: Any, arguments: Mapping[str, Any]) -> None:
    """Raise RequestError for a single step on a scheduler that stretches its noise levels between first and last.

    It would divide by zero, and diffusers ends in an IndexError that does not say why.
    """
    scheduler = getattr(pipe, "scheduler", None)
    if arguments.get("num_inference_steps") != 1 or arguments.get("sigmas") is not None:
        return
    if getattr(getattr(scheduler, "config", None), "shift_terminal", None):
        raise RequestError(
            f"this pipeline's {type(scheduler).__name__} has shift_terminal, a first and a last noise level: "
            "ask for num_inference_steps=2 or more"
        )


def _begin(pipe: Any, first: Any) -> int:
    """Return the place of a run's first call; of several with the same timestep, the one that leaves as many steps."""
    places = _places(pipe.scheduler, first)
    wanted = len(pipe.scheduler.timesteps) - getattr(pipe, "num_timesteps", len(pipe.scheduler.timesteps))
    return wanted if wanted in places else places[0]


def _places(scheduler: Any, timestep: Any) -> list[int]:
    """Return where a timestep stands among the scheduler's. Raises KnobError where it does not."""
    timesteps = getattr(scheduler, "timesteps", None)
    if timesteps is None or timestep is None:
        raise _untold(scheduler, "at which step it is")
    own = torch.as_tensor(timestep, device=timesteps.device).flatten()
    places = (timesteps == own[0]).nonzero().flatten().tolist()
    if not places or not bool((own == own[0]).all()):
        raise _untold(scheduler, f"at which step it is (timestep {own.unique().tolist()})")
    return places


def _sigma(scheduler: Any, step: int) -> Tensor:
    """Return the noise over the signal, σ, of a step. Raises KnobError."""
    if hasattr(scheduler, "sigmas"):
        return scheduler.sigmas[step]
    if not hasattr(scheduler, "alphas_cumprod"):
        raise _untold(scheduler, "how much noise is left")
    signal = scheduler.alphas_cumprod[int(scheduler.timesteps[step])].clamp(min=_SMALLEST_SIGNAL)
    return ((1 - signal) / signal).sqrt()


def _untold(scheduler: Any, what: str) -> KnobError:
    return KnobError(
        f"{type(scheduler).__name__} does not tell {what}, "
        "so start, end and curve of a schedule cannot be followed; use another scheduler, or leave them out"
    )
