"""How well pictures come back from the autoencoder, and sheets to look at."""

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
    """Return the peak signal-to-noise ratio of held-out renders in dB: of all pixels, and of those of things alone."""
    images, on_things = held_out_renders()
    again = [
        (autoencoder.decoder(autoencoder.encoder(part)) + 1) / 2 for part in to_pixels(images).to(device).split(16)
    ]
    drawn = torch.cat(again).clamp(0, 1).cpu().permute(0, 2, 3, 1)
    errors = (drawn - images / 255).square().mean(-1)
    return {
        "round_trip_db": round(-10 * math.log10(errors.mean().item()), 2),
        "round_trip_db_things": round(-10 * math.log10(errors[on_things].mean().item()), 2),
    }


def hard_edges(pictures: Pixels) -> float:
    """Return the share of neighbouring pixels that differ by more than half of the range in some channel."""
    steps = [pictures.diff(dim=dim).abs().amax(1) > 1 for dim in (-1, -2)]  # the range is 2, from -1 to 1
    return torch.cat([step.flatten() for step in steps]).float().mean().item()


@cache
def held_out_renders() -> tuple[UInt8[Tensor, "images 128 128 3"], Bool[Tensor, "images 128 128"]]:
    """Return the held-out renders, and which of their pixels things or their shadows change."""
    scenes = held_out_scenes()
    whole = np.stack([np.asarray(render(scene)) for scene in scenes])
    empty = np.stack([np.asarray(render(replace(scene, things=(), relations=()))) for scene in scenes])
    return torch.from_numpy(whole), torch.from_numpy((whole != empty).any(-1))


def write_sheet(path: Path, rows: Sequence[Pixels]) -> None:
    """Write rows of pictures, with values from -1 to 1, as one image."""
    sheet = torch.cat([torch.cat(list(row), -1) for row in rows], -2)
    pixels = ((sheet.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy()
    Image.fromarray(pixels).save(path)
