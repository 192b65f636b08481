"""Draw held-out captions with an exported folder, to be looked at."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vsf.tiny.training import export, losses
from vsf.tiny.training.autoencoder import CHANNELS, Autoencoder, to_pixels
from vsf.tiny.training.denoiser import Denoiser
from vsf.tiny.training.evaluation import held_out_scenes, write_sheet
from vsf.tiny.training.tokens import Tokenizer
from vsf.tiny.training.transformer import SIDE
from vsf.tiny.world.captions import caption
from vsf.tiny.world.renderer import render

COLUMNS = 12
SETTINGS = ((1.0, 28), (3.0, 28), (1.0, 8))
"""Guidance scale and steps of each row that the model draws."""


def write_samples(folder: Path) -> None:
    """Write a sheet beside the folder: renders, the same through the autoencoder, then the model's own pictures."""
    denoiser, autoencoder, code = read(folder)
    tokenizer = Tokenizer()
    rng = random.Random(0)
    scenes = held_out_scenes()[:COLUMNS]
    captions = [caption(scene, rng) for scene in scenes]
    tokens = torch.tensor([tokenizer(text) for text in captions])
    empty = torch.tensor(tokenizer("")).expand_as(tokens)
    noise = torch.randn(COLUMNS, CHANNELS, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    pixels = to_pixels(torch.from_numpy(np.stack([np.asarray(render(scene)) for scene in scenes])))

    def guided(scale: float) -> Callable[[Tensor, Tensor], Tensor]:
        def velocity(latents: Tensor, sigma: Tensor) -> Tensor:
            plain: Tensor = denoiser(latents, sigma, tokens)
            return plain if scale == 1 else torch.lerp(denoiser(latents, sigma, empty), plain, scale)

        return velocity

    with torch.no_grad():
        rows = [pixels, autoencoder.decoder(autoencoder.encoder(pixels))]
        for scale, steps in SETTINGS:
            latents = losses.sample(guided(scale), steps, noise)
            rows.append(autoencoder.decoder(latents / code.scale + code.shift))
    write_sheet(folder.with_suffix(".png"), rows)
    print("\n".join(captions))


def read(folder: Path) -> tuple[Denoiser, Autoencoder, export.Code]:
    """Return the networks of an exported folder."""
    blocks = json.loads((folder / "vae" / "config.json").read_text())["num_encoder_blocks"]
    depth = json.loads((folder / "transformer" / "config.json").read_text())["num_layers"]
    denoiser, autoencoder = Denoiser(depth, Tokenizer()), Autoencoder(blocks)
    code, _ = export.load(folder, denoiser, autoencoder)
    return denoiser, autoencoder, code
