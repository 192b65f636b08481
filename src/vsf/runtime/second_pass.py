"""Methods that call the model twice for each step: the second call's arguments, and what becomes of both outputs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vsf.controls.grid import Grid
from vsf.controls.region import Region
from vsf.errors import NotGuidedError


class Caught(Exception):  # noqa: N818 - a signal, not an error
    """Carries a denoiser's arguments out of a pipeline that was only run up to its first call."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        super().__init__()
        self.arguments = arguments


def conditions_of(
    run: Callable[..., Any], pipe: Any, arguments: Mapping[str, Any], texts: Sequence[str], names: Sequence[str]
) -> dict[str, Any]:
    """Return what the pipeline hands its denoiser for other prompts, of its arguments those called `names`.

    `run` has to raise Caught at the denoiser's first call. Nothing is drawn from the caller's random generators.
    Raises NotGuidedError when there is no such call.
    """
    own = {name: None for name in arguments if "prompt" in name and not name.startswith(("negative", "num_"))}
    with torch.random.fork_rng(), _kept(arguments.get("generator")), _silent(pipe):
        try:
            run(pipe, **{**arguments, **own, "prompt": list(texts)})
        except Caught as caught:
            return {name: caught.arguments[name] for name in names if name in caught.arguments}
    raise NotGuidedError("the pipeline ran without calling the denoiser that is guided")


def mixed(mix: Callable[[Tensor, Tensor], Tensor], output: Any, other: Any) -> Any:
    """Return the denoiser's output with its prediction mixed with that of the other call."""
    if isinstance(output, Tensor):
        return mix(output, other)
    first, second = output[0], other[0]
    several = isinstance(first, list)
    new = [mix(a, b) for a, b in zip(first, second, strict=True)] if several else mix(first, second)
    if isinstance(output, tuple):
        return (new, *output[1:])
    name = next(iter(output.keys()))
    return type(output)(**{**output, name: new})


def strength_on(
    output: Tensor, rows: Sequence[float], region: Region | None, grid: Grid | None, *, channels_last: bool = False
) -> Float[Tensor, "..."]:
    """Return the strength of each row, and with a region of each place, in a shape that broadcasts to the output.

    Outputs are pictures (batch, channels, height, width), clips (batch, channels, frames, height, width), either of
    them with the channels last, or tokens (batch, tokens, channels).
    """
    own = torch.tensor(rows, device=output.device).reshape(-1, *(1,) * (output.dim() - 1))
    if region is None:
        return own
    if channels_last and output.dim() > 3:
        return own * region.on(*output.shape[-3:-1]).to(output.device)[..., None]
    if output.dim() > 3:
        return own * region.on(*output.shape[-2:]).to(output.device)
    assert grid is not None
    fitted = grid.fit(output.shape[1])
    places = region.on(fitted.height, fitted.width).flatten().repeat(fitted.frames)
    behind = places.new_zeros(output.shape[1] - fitted.tokens)
    return own * torch.cat([places, behind]).to(output.device)[None, :, None]


@contextmanager
def _kept(generator: Any) -> Iterator[None]:
    """Put the random generators back to where they stood."""
    found = generator if isinstance(generator, list | tuple) else [generator]
    states = [(one, one.get_state()) for one in found if one is not None]
    try:
        yield
    finally:
        for one, state in states:
            one.set_state(state)


@contextmanager
def _silent(pipe: Any) -> Iterator[None]:
    """Show no progress of a run that is cut short."""
    before = vars(pipe).get("_progress_bar_config")
    pipe.set_progress_bar_config(**{**(before or {}), "disable": True})
    try:
        yield
    finally:
        if before is None:
            del pipe._progress_bar_config
        else:
            pipe.set_progress_bar_config(**before)
