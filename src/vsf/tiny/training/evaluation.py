"""Measure how well pictures survive the autoencoder, and write contact sheets of pictures."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from PIL import Image
from torch import Tensor

from vsf.tiny.training.autoencoder import Autoencoder, Pixels, to_pixels
from vsf.tiny.world.renderer import render
from vsf.tiny.world.scenes import Scene, sample_scene

HELD_OUT_SCENES = 96


@cache
def held_out_scenes() -> tuple[Scene, ...]:
    """Return scenes that no training set holds."""
    rng = random.Random("held-out renders")
    return tuple(sample_scene(rng) for _ in range(HELD_OUT_SCENES))


@torch.no_grad()
def round_trip_db(autoencoder: Autoencoder, device: torch.device) -> dict[str, float]:
    """Return the peak signal-to-noise ratio of held-out renders after the autoencoder, in dB.

    Returns:
        ``round_trip_db`` over all pixels, ``round_trip_db_things`` over those that things or their shadows cover.
    """
    images, on_things = held_out_renders()
    decoded = []
    for batch in to_pixels(images).to(device).split(16):
        decoded.append((autoencoder.decoder(autoencoder.encoder(batch)) + 1) / 2)
    pictures = torch.cat(decoded).clamp(0, 1).cpu().permute(0, 2, 3, 1)
    errors = (pictures - images / 255).square().mean(-1)
    return {
        "round_trip_db": round(-10 * math.log10(errors.mean().item()), 2),
        "round_trip_db_things": round(-10 * math.log10(errors[on_things].mean().item()), 2),
    }


def hard_edges(pictures: Pixels) -> float:
    """Return the share of neighbouring pixels that differ by more than half of the range in some channel."""
    across = pictures.diff(dim=-1).abs().amax(1) > 1  # half of the range, which goes from -1 to 1
    down = pictures.diff(dim=-2).abs().amax(1) > 1
    return torch.cat([across.flatten(), down.flatten()]).float().mean().item()


@cache
def held_out_renders() -> tuple[UInt8[Tensor, "images 128 128 3"], Bool[Tensor, "images 128 128"]]:
    """Return the held-out renders, and which of their pixels belong to things or their shadows."""
    pictures: list[np.ndarray] = []
    on_things: list[np.ndarray] = []
    for scene in held_out_scenes():
        picture = np.asarray(render(scene))
        empty_place = np.asarray(render(replace(scene, things=(), relations=())))
        pictures.append(picture)
        on_things.append((picture != empty_place).any(-1))
    return torch.from_numpy(np.stack(pictures)), torch.from_numpy(np.stack(on_things))


def write_sheet(path: Path, rows: Sequence[Pixels]) -> None:
    """Write rows of pictures, with values from -1 to 1, as one image."""
    strips = [torch.cat(list(row), -1) for row in rows]
    sheet = torch.cat(strips, -2)
    pixels = ((sheet.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy()
    Image.fromarray(pixels).save(path)
