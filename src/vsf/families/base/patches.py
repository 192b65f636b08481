"""The grid of image tokens that latents are cut into."""

from collections.abc import Sequence
from typing import Any

from vsf.controls.grid import Grid


def patch_sizes(config: Any) -> tuple[int, ...]:
    """Return the sizes of a patch, (height, width) or (frames, height, width), from a denoiser's config.

    `config.patch_size` has one number for each axis, or one for height and width; then `config.patch_size_t`, where a
    model has it, counts the frames.
    """
    if not isinstance(config.patch_size, int):
        return tuple(config.patch_size)
    square = (config.patch_size, config.patch_size)
    frames = getattr(config, "patch_size_t", None)
    return square if frames is None else (frames, *square)


def patch_grid(latents: Sequence[int], patch: Sequence[int]) -> Grid:
    """Cut latents into patches, each of which is one image token.

    Args:
        latents: sizes (height, width) or (frames, height, width).
        patch: sizes of a patch, along the same axes.
    """
    *frames, height, width = (size // side for size, side in zip(latents, patch, strict=True))
    return Grid(height, width, frames[0] if frames else 1)
