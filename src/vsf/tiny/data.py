"""Training data, drawn while training runs: images from the renderer, a new caption at every visit."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vsf.tiny.renderer import render
from vsf.tiny.scenes import Scene, caption, sample_scene


def draw_chunk(
    seed: int, index: int, count: int, size: int
) -> tuple[UInt8[np.ndarray, "images size size 3"], list[Scene]]:
    """Draw chunk ``index`` of the endless training set: ``count`` images, the same for every run with this seed."""
    rng = random.Random(f"{seed}/{index}")
    scenes = [sample_scene(rng) for _ in range(count)]
    images = [np.asarray(render(scene, size)) for scene in scenes]
    return np.stack(images), scenes


def chunks(
    seed: int, count: int, size: int, first: int
) -> Iterator[tuple[UInt8[Tensor, "images size size 3"], list[Scene]]]:
    """Yield the chunks from number ``first`` on; a second process draws one ahead."""
    # Spawned, because a process that has used torch or CUDA cannot be forked safely.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        ahead: Future[tuple[np.ndarray, list[Scene]]] = pool.submit(draw_chunk, seed, first, count, size)
        while True:
            first += 1
            images, scenes = ahead.result()
            ahead = pool.submit(draw_chunk, seed, first, count, size)
            yield torch.from_numpy(images), scenes


def to_pixels(images: UInt8[Tensor, "images size size 3"]) -> Float[Tensor, "images 3 size size"]:
    """Convert bytes to the autoencoder's range, -1 to 1."""
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1


class Window:
    """The last ``capacity`` chunks as latents with their scenes."""

    def __init__(self, source: Iterator[tuple[Tensor, list[Scene]]], encode: Callable[[Tensor], Tensor], capacity: int):
        self._source = source
        self._encode = encode
        self._capacity = capacity
        self._latents: list[Tensor] = []
        self._scenes: list[list[Scene]] = []

    def grow(self) -> None:
        """Add one chunk and, if the window is full, drop the oldest."""
        images, scenes = next(self._source)
        self._latents.append(self._encode(images))
        self._scenes.append(scenes)
        if len(self._latents) > self._capacity:
            del self._latents[0], self._scenes[0]

    def sample(self, count: int, rng: random.Random) -> tuple[Float[Tensor, "count ..."], list[str]]:
        """Return random images as latents, each with a caption made for this visit."""
        chunk = len(self._scenes[0])
        # All images are picked before the first caption is written: the order of draws settles a seeded run.
        picks = [divmod(rng.randrange(len(self._scenes) * chunk), chunk) for _ in range(count)]
        latents: list[Tensor] = []
        captions: list[str] = []
        for number, index in picks:
            latents.append(self._latents[number][index])
            captions.append(caption(self._scenes[number][index], rng))
        return torch.stack(latents), captions
