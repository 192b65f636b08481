"""The time of a clip: its frames per second and per latent frame, as a pipeline tells them."""

import inspect
from collections.abc import Mapping
from typing import Any

from vsf.families.base.host import CallArguments, Pipeline

_RATES = ("frame_rate", "fps")
_LENGTHS = ("num_frames", "frames")
_RATIOS = ("vae_scale_factor_temporal", "vae_temporal_compression_ratio")


def frames_per_latent(pipe: Pipeline | None) -> int | None:
    """Return how many frames of a clip each latent frame but the first stands for, None where nothing tells."""
    for name in _RATIOS:
        if ratio := getattr(pipe, name, None):
            return int(ratio)
    return None


def told_rate(pipe: Pipeline | None, arguments: CallArguments) -> float | None:
    """Return the frames per second that a call of a pipeline names, or that it always has; None where neither tells."""
    rate = _argument(pipe, arguments, _RATES)
    return getattr(pipe, "fps", None) if rate is None else rate


def told_length(pipe: Pipeline | None, arguments: CallArguments, usual: int | None = None) -> int | None:
    """Return the number of frames that a call of a pipeline asks for, None where it names none.

    Args:
        pipe: the pipeline; None when a denoiser is guided on its own.
        arguments: of the call.
        usual: what a pipeline that lets a call ask makes where it does not.
    """
    length = _argument(pipe, arguments, _LENGTHS)
    lets_ask = any(name in _parameters(pipe) for name in _LENGTHS)
    return usual if length is None and lets_ask else length


def _argument(pipe: Pipeline | None, arguments: CallArguments, names: tuple[str, ...]) -> Any:
    """Return the value of the first of these arguments that a call has, or its default."""
    parameters = _parameters(pipe)
    for name in names:
        default = parameters[name].default if name in parameters else None
        value = arguments.get(name, default)
        if value is not None and value is not inspect.Parameter.empty:
            return value
    return None


def _parameters(pipe: Pipeline | None) -> Mapping[str, inspect.Parameter]:
    return {} if pipe is None else inspect.signature(type(pipe).__call__).parameters
