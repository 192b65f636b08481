"""Denoisers whose tokens are spread over several processes by diffusers' context parallelism."""

from torch import nn

from vsf.errors import UnsupportedAttentionError
from vsf.runtime.run import Settings


def check_parallel(denoiser: nn.Module, settings: Settings) -> None:
    """Check that a denoiser can be guided under its `enable_parallelism`.

    Raises:
        UnsupportedAttentionError: its attention gathers text tokens from all processes, it passes keys round in a ring,
            or the guidance needs to know where image tokens lie, of which each process has a share.
    """
    parallel_config = getattr(denoiser, "_parallel_config", None)
    config = getattr(parallel_config, "context_parallel_config", None)
    if config is None:
        return
    name = type(denoiser).__name__
    family = settings.family
    if not family.keeps_text_whole:
        raise UnsupportedAttentionError(
            f"context parallelism spreads the text tokens of {name} over processes, and its attention gathers them in "
            "another order, with shares of the negative in several places: run it without enable_parallelism"
        )
    if (config.ring_degree or 1) > 1:
        raise UnsupportedAttentionError(
            f"{name} runs with ring attention (ring_degree), which passes keys from process to process; guidance is "
            "not defined on it: use ulysses_degree alone"
        )
    if settings.needs_grid:
        raise UnsupportedAttentionError(
            f"each process has a share of the image tokens of {name}, and which of them is not followed: leave out "
            'mask=, frames=, seconds=, observe= and scale="auto", or run it without enable_parallelism'
        )
