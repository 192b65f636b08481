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

from vsf.tiny.training.autoencoder import CHANNELS, FACTOR, Encoder, Latents, to_pixels
from vsf.tiny.training.tokens import LENGTH, Tokenizer
from vsf.tiny.training.transformer import SIDE
from vsf.tiny.world.captions import plan_caption
from vsf.tiny.world.renderer import SIZE, render
from vsf.tiny.world.scenes import sample_scene

CHUNK = 256
"""Images of one file."""
CAPTIONS = 4
"""Captions of each image."""
VARIANTS = ("as written", "without parts", "with essential parts")
Images = UInt8[np.ndarray, "images 128 128 3"]
CaptionTokens = Int16[np.ndarray, "images captions variants tokens"]


def draw_chunk(folder: Path, seed: int, count: int, index: int) -> None:
    """Draw one chunk of the endless training set and write its images and captions.

    Args:
        folder: Where to write ``<index>.images.npy`` and ``<index>.tokens.npy``.
        seed: Seed of the run; every run with this seed draws the same chunks.
        count: Images to draw.
        index: Number of the chunk.
    """
    rng = random.Random(f"{seed}/{index}")
    scenes = [sample_scene(rng) for _ in range(count)]
    tokenizer = Tokenizer()
    tokens: CaptionTokens = np.empty((count, CAPTIONS, len(VARIANTS), LENGTH), np.int16)
    for number, scene in enumerate(scenes):
        for caption_number in range(CAPTIONS):
            plan = plan_caption(scene, rng)
            for variant_number, variant in enumerate((plan, plan.without_parts(), plan.with_essentials())):
                tokens[number, caption_number, variant_number] = tokenizer(variant.text())
    images: Images = np.stack([np.asarray(render(scene)) for scene in scenes])
    write_array(folder / f"{index:05}.tokens.npy", tokens)
    # Images are written last: a chunk that has them has its captions too.
    write_array(folder / f"{index:05}.images.npy", images)


def write_array(path: Path, array: np.ndarray) -> None:
    """Write an array atomically: the file either is complete or does not exist."""
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.save(file, array)
    part.replace(path)


class TrainingSet:
    """A training set that grows with training: images not yet on disk are drawn when they are needed.

    Args:
        folder: Where renders and latents are cached; created if missing.
        seed: Settles all images and captions.
        capacity: Images to hold at most; rounded down to whole chunks.
        workers: Processes that draw; 0 draws in this process.
        device: Where latents and captions are held.
    """

    def __init__(self, folder: Path, seed: int, capacity: int, workers: int, device: torch.device) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._seed = seed
        self._workers = workers
        self._device = device
        self._chunk = CHUNK
        self.capacity = max(1, capacity // CHUNK) * CHUNK
        self.ready = 0
        self._pool: ProcessPoolExecutor | None = None
        self._jobs: dict[int, Future[None]] = {}
        self._encoder: Encoder | None = None
        self._encoder_hash = ""
        self._shift = 0.0
        self._scale = 1.0
        self._latents = torch.empty(0)
        self._tokens = torch.empty(self.capacity, CAPTIONS, len(VARIANTS), LENGTH, dtype=torch.int16, device=device)

    def draw_ahead(self, count: int) -> None:
        """Start drawing the missing ones of the first ``count`` images in the background, if there are workers."""
        if self._pool is None and self._workers:
            # Spawned, because a process that has used torch or CUDA cannot be forked safely.
            self._pool = ProcessPoolExecutor(self._workers, mp_context=get_context("spawn"))
        for index in self._missing_chunks(count):
            if self._pool and index not in self._jobs:
                self._jobs[index] = self._pool.submit(draw_chunk, self._folder, self._seed, self._chunk, index)

    def draw(self, count: int) -> None:
        """Make sure that the first ``count`` images, or the capacity if that is less, are on disk."""
        self.draw_ahead(count)
        for index in self._missing_chunks(count):
            if index in self._jobs:
                self._jobs[index].result()
            else:
                draw_chunk(self._folder, self._seed, self._chunk, index)

    def _missing_chunks(self, count: int) -> list[int]:
        """Return the numbers of those chunks of the first ``count`` images that are not on disk."""
        return [index for index in range(self._chunks_of(count)) if not self._path(index, "images").exists()]

    def _chunks_of(self, count: int) -> int:
        """Return how many chunks hold the first ``count`` images, or the capacity if that is less."""
        return -(-min(count, self.capacity) // self._chunk)

    def images(self, count: int) -> UInt8[Tensor, "images 128 128 3"]:
        """Return the first images as bytes on the device, in whole chunks and at most the capacity."""
        self.draw(count)
        chunks = [np.load(self._path(index, "images")) for index in range(self._chunks_of(count))]
        return torch.from_numpy(np.concatenate(chunks)).to(self._device)

    def encode_with(self, encoder: Encoder, shift: float, scale: float) -> None:
        """Use this encoder from now on, and start from no image; latents are stored as (code - shift) x scale."""
        self._encoder = encoder
        self._shift = shift
        self._scale = scale
        weights = b"".join(value.detach().cpu().numpy().tobytes() for value in encoder.state_dict().values())
        self._encoder_hash = hashlib.sha256(weights + repr((shift, scale)).encode()).hexdigest()[:12]
        self._latents = torch.empty(self.capacity, CHANNELS, SIDE, SIDE, dtype=torch.float16, device=self._device)
        self.ready = 0

    def grow(self, count: int) -> None:
        """Make sure that the first ``count`` images, or the capacity if that is less, can be looked up."""
        needed = min(count, self.capacity)
        if self.ready >= needed:
            return
        self.draw(needed)
        while self.ready < needed:
            index = self.ready // self._chunk
            rows = slice(self.ready, self.ready + self._chunk)
            self._latents[rows] = self._chunk_latents(index).to(self._device)
            self._tokens[rows] = torch.from_numpy(np.load(self._path(index, "tokens"))).to(self._device)
            self.ready += self._chunk

    def batch(self, count: int, generator: torch.Generator) -> tuple[Latents, Int[Tensor, "batch variants tokens"]]:
        """Return random latents, each with one random caption of its scene in all variants."""
        rows = torch.randint(self.ready, (count,), device=self._device, generator=generator)
        captions = torch.randint(CAPTIONS, (count,), device=self._device, generator=generator)
        return self._latents[rows].float(), self._tokens[rows, captions].long()

    @torch.no_grad()
    def _chunk_latents(self, index: int) -> Tensor:
        """Return a chunk's latents in float16, from disk if this very encoder wrote them."""
        assert self._encoder is not None
        # The name holds a hash of the encoder's weights, so that another encoder's latents are never read.
        path = self._path(index, f"latents-{self._encoder_hash}")
        if not path.exists():
            images = torch.from_numpy(np.load(self._path(index, "images"))).to(self._device)
            codes = [self._encoder(to_pixels(part)).float() for part in images.split(64)]
            latents = ((torch.cat(codes) - self._shift) * self._scale).half()
            write_array(path, latents.cpu().numpy())
        return torch.from_numpy(np.load(path))

    def _path(self, index: int, kind: str) -> Path:
        return self._folder / f"{index:05}.{kind}.npy"


def crops(images: UInt8[Tensor, "images 128 128 3"], count: int, side: int, generator: torch.Generator) -> Tensor:
    """Cut random squares out of images, aligned to latent pixels.

    Args:
        images: Bytes.
        count: Squares to cut.
        side: Side of a square in pixels.
        generator: Chooses images and positions.

    Returns:
        Pixels (count, 3, side, side) from -1 to 1.
    """
    positions = (SIZE - side) // FACTOR + 1
    device = images.device
    rows = torch.randint(len(images), (count, 1, 1), device=device, generator=generator)
    top = torch.randint(positions, (count, 1, 1), device=device, generator=generator)
    left = torch.randint(positions, (count, 1, 1), device=device, generator=generator)
    steps = torch.arange(side, device=device)
    return to_pixels(images[rows, top * FACTOR + steps[:, None], left * FACTOR + steps])
