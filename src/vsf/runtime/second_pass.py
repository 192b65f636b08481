"""Support for two-pass methods (classifier-free guidance): find the second pass's inputs and combine both outputs."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vsf.controls.grid import Grid
from vsf.controls.region import Region
from vsf.errors import NotGuidedError
from vsf.patching.hosts import CallArguments, Pipeline


class StopAtDenoiser(Exception):  # noqa: N818 - a signal, not an error
    """Ends a pipeline's run at its first denoiser call, and carries the arguments of that call out of it."""

    def __init__(self, arguments: CallArguments) -> None:
        super().__init__()
        self.arguments = arguments


def second_pass_arguments(
    run: Callable[..., Any],
    pipe: Pipeline,
    arguments: CallArguments,
    *,
    texts: Sequence[str],
    names: Sequence[str],
) -> dict[str, Any]:
    """Return the denoiser arguments for other prompts, by running the pipeline up to its first denoiser call.

    Nothing is drawn from the caller's random generators, so that the run that follows starts as it would have.

    Args:
        run: called as run(pipe, **arguments); has to raise StopAtDenoiser at the first denoiser call.
        pipe: the pipeline.
        arguments: those of the caller.
        texts: the other prompts.
        names: the denoiser arguments to return, where the pipeline gives them.

    Raises:
        NotGuidedError: the pipeline did not call its denoiser.
    """
    # The caller's positive prompt may also come as embeddings or as a second prompt: all of it makes way for `texts`.
    other_prompts: dict[str, Any] = {}
    for name in arguments:
        if "prompt" in name and not name.startswith(("negative", "num_")):
            other_prompts[name] = None
    other_prompts["prompt"] = list(texts)
    with torch.random.fork_rng(), _generators_restored(arguments.get("generator")), _progress_hidden(pipe):
        try:
            run(pipe, **{**arguments, **other_prompts})
        except StopAtDenoiser as stop:
            return {name: stop.arguments[name] for name in names if name in stop.arguments}
    raise NotGuidedError("the pipeline ran without calling the denoiser that is guided")


def mixed(mix: Callable[[Tensor, Tensor], Tensor], output: Any, second_output: Any) -> Any:
    """Mix the predictions in two outputs of a denoiser; everything else is the first output's.

    Args:
        mix: combines two predictions.
        output: a tensor; or a tuple or output class whose first entry is the prediction, or a list of predictions.
        second_output: that of the second pass, of the same form.
    """
    if isinstance(output, Tensor):
        return mix(output, second_output)
    prediction = output[0]
    second_prediction = second_output[0]
    mixture: Any
    if isinstance(prediction, list):
        mixture = [mix(*predictions) for predictions in zip(prediction, second_prediction, strict=True)]
    else:
        mixture = mix(prediction, second_prediction)
    if isinstance(output, tuple):
        return (mixture, *output[1:])
    name = next(iter(output.keys()))
    return type(output)(**{**output, name: mixture})


def strength_on(
    output: Tensor,
    rows: Sequence[float],
    region: Region | None,
    grid: Grid | None,
    *,
    channels_last: bool = False,
    frames_first: bool = False,
) -> Float[Tensor, "..."]:
    """Return the strength of each row, and with a region of each place, in a shape that broadcasts to the output.

    Args:
        output: images (batch, channels, height, width), videos (batch, channels, frames, height, width), either of
            them with the channels last, or tokens (batch, tokens, channels).
        rows: strength of each batch row.
        region: where the method acts; None for everywhere.
        grid: how tokens lie in the picture; needed for a region.
        channels_last: whether images and videos have their channels last.
        frames_first: whether videos have their frames in front of the channels.
    """
    of_rows = torch.tensor(rows, device=output.device).reshape(-1, *(1,) * (output.dim() - 1))
    if region is None:
        return of_rows
    assert grid is not None
    if output.dim() == 3:
        return of_rows * region.on_tokens(output.shape[1], grid).to(output.device)[None, :, None]
    height, width = output.shape[-3:-1] if channels_last else output.shape[-2:]
    strengths = region.on(replace(grid, height=height, width=width)).to(output.device)
    if not region.is_timed:
        strengths = strengths[0]
    else:
        strengths = _per_latent(strengths, output.shape[1 if channels_last or frames_first else 2])
        if frames_first:
            strengths = strengths[:, None]
    return of_rows * (strengths[..., None] if channels_last else strengths)


def _per_latent(places: Float[Tensor, "frames height width"], latents: int) -> Float[Tensor, "latents height width"]:
    """Repeat frames of tokens, which may stand for several latent frames each; what lies behind the clip gets 0."""
    repeated = places.repeat_interleave(max(1, latents // len(places)), 0)
    return F.pad(repeated, (0, 0, 0, 0, 0, latents - len(repeated)))


@contextmanager
def _generators_restored(argument: Any) -> Iterator[None]:
    """Put random generators, a pipeline's `generator` argument, back to the state that they had before the block."""
    generators = argument if isinstance(argument, list | tuple) else [argument]
    states = []
    for generator in generators:
        if generator is not None:
            states.append((generator, generator.get_state()))
    try:
        yield
    finally:
        for generator, state in states:
            generator.set_state(state)


@contextmanager
def _progress_hidden(pipe: Pipeline) -> Iterator[None]:
    """Show no progress bar for a run that is cut short."""
    config = vars(pipe).get("_progress_bar_config")
    pipe.set_progress_bar_config(**{**(config or {}), "disable": True})
    try:
        yield
    finally:
        # Pipelines make this attribute when it is first set, so where there was none, none is left behind.
        if config is None:
            del vars(pipe)["_progress_bar_config"]
        else:
            pipe.set_progress_bar_config(**config)
