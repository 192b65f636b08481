"""Image corruptions in degrees of severity, to see whether a judge notices."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from PIL import Image, ImageFilter

from vsf.tiny.renderer import render
from vsf.tiny.scenes import Scene

_PATCH = 8  # pixels


@dataclass(frozen=True)
class Corruption:
    """A corruption, `apply(image, scene, level, seed)`, and its rising levels; at the first a viewer still sees all."""

    apply: Callable[[Image.Image, Scene, float, int], Image.Image]
    levels: tuple[float, ...]


def blur(image: Image.Image, _scene: Scene, level: float, _seed: int) -> Image.Image:
    """Blur with a Gaussian of `level` pixels."""
    return image.filter(ImageFilter.GaussianBlur(level))


def noise(image: Image.Image, _scene: Scene, level: float, seed: int) -> Image.Image:
    """Add Gaussian noise of `level` times the full range."""
    pixels = np.asarray(image, np.float32)
    noisy = pixels + np.random.default_rng(seed).standard_normal(pixels.shape) * 255 * level
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def shuffle(image: Image.Image, _scene: Scene, level: float, seed: int) -> Image.Image:
    """Move a share `level` of the patches in a ring; a higher level moves the same ones and more."""
    corners = []
    for y in range(0, image.height, _PATCH):
        for x in range(0, image.width, _PATCH):
            corners.append((x, y))
    random.Random(seed).shuffle(corners)
    chosen = corners[: round(level * len(corners))]
    result = image.copy()
    for source, (x, y) in zip(chosen, chosen[1:] + chosen[:1], strict=True):
        result.paste(image.crop((*source, source[0] + _PATCH, source[1] + _PATCH)), (x, y))
    return result


def erase(image: Image.Image, scene: Scene, level: float, _seed: int) -> Image.Image:
    """Replace the left share `level` of the first thing by the background."""
    thing = scene.things[0]
    left_edge = (thing.x - thing.size / 2) * image.width
    width = thing.size * image.width
    behind = render(replace(scene, things=scene.things[1:]), image.width)
    box = (max(0, round(left_edge)), 0, round(left_edge + width * level), image.height)
    result = image.copy()
    result.paste(behind.crop(box), box)
    return result


CORRUPTIONS: Mapping[str, Corruption] = MappingProxyType(
    {
        "blur": Corruption(blur, (0.6, 1.2, 2.0, 3.5)),
        "noise": Corruption(noise, (0.04, 0.1, 0.2, 0.4)),
        "patch shuffle": Corruption(shuffle, (0.05, 0.2, 0.5, 1.0)),
        "half-erased": Corruption(erase, (0.15, 0.3, 0.5)),
    }
)
