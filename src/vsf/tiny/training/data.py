"""The training set: renders in chunks on disk, and in memory the latents and captions that training looks up."""

from __future__ import annotations

import hashlib
import random
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int, Int16, UInt8
from torch import Tensor

from vsf.tiny.training.autoencoder import CHANNELS, Encoder, Latents, to_pixels
from vsf.tiny.training.tokens import LENGTH, Tokenizer
from vsf.tiny.training.transformer import SIDE
from vsf.tiny.world.captions import tell
from vsf.tiny.world.renderer import SIZE, render
from vsf.tiny.world.scenes import sample_scene

CHUNK = 256
TELLINGS = 4
"""Captions of each image."""
VARIANTS = ("as told", "without parts", "with essential parts")
Images = UInt8[np.ndarray, "images 128 128 3"]
Captions = Int16[np.ndarray, "images tellings variants tokens"]


def draw_chunk(folder: Path, seed: int, count: int, index: int) -> None:
    """Draw one chunk of ``count`` images of the endless training set and write it; every run with this seed has it."""
    rng = random.Random(f"{seed}/{index}")
    scenes = [sample_scene(rng) for _ in range(count)]
    tokenizer = Tokenizer()
    tokens = np.empty((count, TELLINGS, len(VARIANTS), LENGTH), np.int16)
    for number, scene in enumerate(scenes):
        for telling_number in range(TELLINGS):
            telling = tell(scene, rng)
            variants = telling, telling.without_parts(), telling.with_essentials()
            tokens[number, telling_number] = [tokenizer(variant.text()) for variant in variants]
    images = np.stack([np.asarray(render(scene)) for scene in scenes])
    write_array(folder / f"{index:05}.tokens.npy", tokens)
    write_array(folder / f"{index:05}.images.npy", images)  # last: a chunk with images is whole


def write_array(path: Path, array: np.ndarray) -> None:
    """Write an array so that the file is either whole or not there."""
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.save(file, array)
    part.replace(path)


class TrainingSet:
    """Grows as training goes on: what is asked for and not yet on disk is drawn."""

    def __init__(self, folder: Path, seed: int, capacity: int, workers: int, device: torch.device) -> None:
        """Hold at most ``capacity`` images; ``workers`` processes draw, or this one if that is 0."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._seed, self._workers, self._device = folder, seed, workers, device
        self._chunk = CHUNK
        self.capacity = max(1, capacity // CHUNK) * CHUNK
        self.ready = 0
        self._pool: ProcessPoolExecutor | None = None
        self._jobs: dict[int, Future[None]] = {}
        self._encoder: Encoder | None = None
        self._shift, self._scale, self._code = 0.0, 1.0, ""
        self._latents = torch.empty(0)
        self._tokens = torch.empty(self.capacity, TELLINGS, len(VARIANTS), LENGTH, dtype=torch.int16, device=device)

    def draw_ahead(self, count: int) -> None:
        """Have the worker processes draw what is missing of this many images while something else goes on."""
        if self._pool is None and self._workers:
            self._pool = ProcessPoolExecutor(self._workers, mp_context=get_context("spawn"))
        for index in self._missing(count):
            if self._pool and index not in self._jobs:
                self._jobs[index] = self._pool.submit(draw_chunk, self._folder, self._seed, self._chunk, index)

    def draw(self, count: int) -> None:
        """Make sure that this many images, or the capacity if that is less, are on disk."""
        self.draw_ahead(count)
        for index in self._missing(count):
            if index in self._jobs:
                self._jobs[index].result()
            else:
                draw_chunk(self._folder, self._seed, self._chunk, index)

    def _missing(self, count: int) -> list[int]:
        """Return the numbers of the chunks of the first images that are not on disk."""
        chunks = -(-min(count, self.capacity) // self._chunk)
        return [index for index in range(chunks) if not self._path(index, "images").exists()]

    def images(self, count: int) -> UInt8[Tensor, "images 128 128 3"]:
        """Return the first images as bytes, on the device."""
        self.draw(count)
        chunks = -(-min(count, self.capacity) // self._chunk)
        arrays = [torch.from_numpy(np.load(self._path(index, "images"))) for index in range(chunks)]
        return torch.cat(arrays).to(self._device)

    def encode_with(self, encoder: Encoder, shift: float, scale: float) -> None:
        """Use this encoder from now on; latents are stored as (code - shift) x scale."""
        self._encoder, self._shift, self._scale = encoder, shift, scale
        weights = b"".join(value.detach().cpu().numpy().tobytes() for value in encoder.state_dict().values())
        self._code = hashlib.sha256(weights + repr((shift, scale)).encode()).hexdigest()[:12]
        self._latents = torch.empty(self.capacity, CHANNELS, SIDE, SIDE, dtype=torch.float16, device=self._device)
        self.ready = 0

    def grow(self, count: int) -> None:
        """Make sure that this many images, or the capacity if that is less, can be looked up."""
        wanted = min(count, self.capacity)
        if self.ready >= wanted:
            return
        self.draw(wanted)
        while self.ready < wanted:
            index = self.ready // self._chunk
            rows = slice(self.ready, self.ready + self._chunk)
            self._latents[rows] = self._chunk_latents(index).to(self._device)
            self._tokens[rows] = torch.from_numpy(np.load(self._path(index, "tokens"))).to(self._device)
            self.ready += self._chunk

    def batch(self, count: int, generator: torch.Generator) -> tuple[Latents, Int[Tensor, "batch variants tokens"]]:
        """Return random latents, each with one telling of its scene in all variants."""
        rows = torch.randint(self.ready, (count,), device=self._device, generator=generator)
        tellings = torch.randint(TELLINGS, (count,), device=self._device, generator=generator)
        return self._latents[rows].float(), self._tokens[rows, tellings].long()

    @torch.no_grad()
    def _chunk_latents(self, index: int) -> Tensor:
        """Return a chunk's latents in float16; from disk if this very encoder wrote them."""
        assert self._encoder is not None
        path = self._path(index, f"latents-{self._code}")
        if not path.exists():
            images = torch.from_numpy(np.load(self._path(index, "images"))).to(self._device)
            codes = [self._encoder(to_pixels(part)).float() for part in images.split(64)]
            latents = ((torch.cat(codes) - self._shift) * self._scale).half()
            write_array(path, latents.cpu().numpy())
        return torch.from_numpy(np.load(path))

    def _path(self, index: int, kind: str) -> Path:
        return self._folder / f"{index:05}.{kind}.npy"


def crops(images: UInt8[Tensor, "images 128 128 3"], count: int, side: int, generator: torch.Generator) -> Tensor:
    """Return ``count`` random squares of ``side`` pixels, aligned to latent pixels, with values from -1 to 1."""
    places = (SIZE - side) // 8 + 1
    device = images.device
    rows, top, left = (
        torch.randint(end, (count, 1, 1), device=device, generator=generator) for end in (len(images), places, places)
    )
    steps = torch.arange(side, device=device)
    return to_pixels(images[rows, top * 8 + steps[:, None], left * 8 + steps])
