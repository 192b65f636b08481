"""Random corruptions of training images, like the mistakes of a small diffusion model."""

from __future__ import annotations

import random
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

Images = Float[Tensor, "batch 3 height width"]


def blur(images: Images, sigma: float) -> Images:
    """Apply a Gaussian blur; `sigma` in pixels."""
    reach = max(1, round(3 * sigma))
    kernel = torch.exp(-torch.arange(-reach, reach + 1).float().square() / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, -1)
    # A Gaussian is separable: one pass along the rows and one along the columns cost less than a square kernel.
    blurred_rows = F.conv2d(F.pad(images, (reach, reach, 0, 0), mode="replicate"), kernel, groups=3)
    return F.conv2d(F.pad(blurred_rows, (0, 0, reach, reach), mode="replicate"), kernel.transpose(2, 3), groups=3)


def shrink(images: Images, side: int) -> Images:
    """Scale down to `side` pixels and back up."""
    small = F.interpolate(images, size=(side, side), mode="area")
    return F.interpolate(small, size=images.shape[-2:], mode="bilinear", align_corners=False)


def noise(images: Images, sigma: float, grain: int = 1) -> Images:
    """Add Gaussian noise in blocks of `grain` pixels."""
    batch, _, height, width = images.shape
    coarse = torch.randn(batch, 3, height // grain, width // grain) * sigma
    return images + (coarse if grain == 1 else F.interpolate(coarse, size=(height, width), mode="bicubic"))


def tint(images: Images, contrast: float, shift: float) -> Images:
    """Scale the contrast around each image's mean, and shift each channel by up to `shift`."""
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (images - mean) * contrast + (torch.rand(len(images), 3, 1, 1) * 2 - 1) * shift


def smear(images: Images, pixels: float) -> Images:
    """Bend shapes by a smooth random field of about `pixels`, as an autoencoder bends details that it cannot place."""
    batch, _, height, width = images.shape
    field = F.interpolate(torch.randn(batch, 2, 8, 8), size=(height, width), mode="bicubic") * (2 * pixels / width)
    rows, columns = torch.meshgrid(_centres(height), _centres(width), indexing="ij")
    grid = torch.stack([columns, rows], dim=-1) + field.permute(0, 2, 3, 1)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def wipe(images: Images, side: int, rng: random.Random) -> Images:
    """Fade a patch of `side` pixels into a strong blur of the image, at a different place in each."""
    soft = blur(images, 4.0)
    result = images.clone()
    for index in range(len(images)):
        top = rng.randrange(images.shape[-1] - side)
        start = rng.randrange(images.shape[-1] - side)
        area = (index, slice(None), slice(top, top + side), slice(start, start + side))
        result[area] = torch.lerp(images[area], soft[area], rng.uniform(0.4, 1.0))
    return result


def corrupt(images: Images, rng: random.Random, unit: int = 1) -> Images:
    """Apply each corruption to a random part of a batch; a fifth of the images stays clean.

    Args:
        images: Values from 0 to 1.
        rng: Decides which images are corrupted, and how much; noise also depends on torch's global seed.
        unit: Pixels that lengths are counted in: 1 for images of 64 pixels, 2 for those of 128.
    """
    corruptions: list[tuple[float, Callable[[Images], Images]]] = [
        (0.3, lambda some: smear(some, unit * rng.uniform(0.2, 1.3))),
        (0.2, lambda some: wipe(some, unit * rng.randint(3, 7), rng)),
        (0.2, lambda some: noise(some, rng.uniform(0.02, 0.1), grain=unit * rng.choice((2, 4, 8)))),
        (0.25, lambda some: blur(some, unit * rng.uniform(0.3, 1.0))),
        (0.12, lambda some: blur(some, unit * rng.uniform(0.8, 1.8))),
        (0.2, lambda some: shrink(some, unit * rng.randint(22, 50))),
        (0.4, lambda some: tint(some, rng.uniform(0.55, 1.2), rng.uniform(0, 0.1))),
        (0.25, lambda some: noise(some, rng.uniform(0.01, 0.06))),
        (0.12, lambda some: noise(some, rng.uniform(0.06, 0.2))),
    ]
    result = images.clone()
    not_clean = [index for index in range(len(images)) if rng.random() > 0.2]
    for probability, corruption in corruptions:
        chosen = [index for index in not_clean if rng.random() < probability]
        if chosen:
            result[chosen] = corruption(result[chosen])
    return result.clamp(0, 1)


def _centres(count: int) -> Float[Tensor, " count"]:
    """Return pixel centres in the units of grid_sample, -1 to 1."""
    return (torch.arange(count) * 2 + 1) / count - 1
