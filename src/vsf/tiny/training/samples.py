"""Draw held-out captions with an exported folder, to be looked at."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from vsf.tiny.training import export, losses
from vsf.tiny.training.autoencoder import CHANNELS, Autoencoder, Latents, to_pixels
from vsf.tiny.training.denoiser import Denoiser
from vsf.tiny.training.evaluation import hard_edges, held_out_renders, held_out_scenes, round_trip_db, write_sheet
from vsf.tiny.training.tokens import Tokenizer
from vsf.tiny.training.transformer import SIDE
from vsf.tiny.world.captions import caption

COLUMNS = 12
SETTINGS = ((1.0, 28), (3.0, 28), (1.0, 8))
"""Guidance scale and steps of each row that the model draws."""


def write_samples(folder: Path) -> None:
    """Write a sheet beside the folder and print its captions and figures.

    Rows: renders, the same through the autoencoder, then the model's own pictures at each of `SETTINGS`. Figures: the
    round trip in dB and, for each row, the hard edges as a share of what the renders have.
    """
    denoiser, autoencoder, code = read(folder)
    rng = random.Random(0)
    captions = [caption(scene, rng) for scene in held_out_scenes()]
    pixels = to_pixels(held_out_renders()[0])
    with torch.no_grad():
        rows = [pixels, torch.cat([autoencoder.decoder(autoencoder.encoder(part)) for part in pixels.split(16)])]
        for scale, steps in SETTINGS:
            latents = draw(denoiser, captions, scale, steps)
            stored = latents / code.scale + code.shift
            rows.append(torch.cat([autoencoder.decoder(part) for part in stored.split(16)]))
    write_sheet(folder.with_suffix(".png"), [row[:COLUMNS] for row in rows])
    print("\n".join(captions[:COLUMNS]))
    names = ["autoencoder", *(f"guidance {scale}, {steps} steps" for scale, steps in SETTINGS)]
    edges = {name: hard_edges(row) / hard_edges(pixels) for name, row in zip(names, rows[1:], strict=True)}
    shares = {name: round(share, 3) for name, share in edges.items()}
    print(json.dumps({**round_trip_db(autoencoder, torch.device("cpu")), "hard_edges": shares}))


@torch.no_grad()
def draw(denoiser: Denoiser, captions: Sequence[str], scale: float, steps: int) -> Latents:
    """Return latents for captions, with classifier-free guidance unless ``scale`` is 1."""
    tokenizer = Tokenizer()
    noise = torch.randn(len(captions), CHANNELS, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    tokens = torch.tensor([tokenizer(text) for text in captions])
    empty = torch.tensor(tokenizer(""))

    def part(texts: Tensor, start: Latents) -> Latents:
        def velocity(latents: Latents, sigma: Tensor) -> Latents:
            plain: Tensor = denoiser(latents, sigma, texts)
            return plain if scale == 1 else torch.lerp(denoiser(latents, sigma, empty.expand_as(texts)), plain, scale)

        return losses.sample(velocity, steps, start)

    return torch.cat([part(*batch) for batch in zip(tokens.split(32), noise.split(32), strict=True)])


def read(folder: Path) -> tuple[Denoiser, Autoencoder, export.Code]:
    """Return the networks of an exported folder."""
    blocks = json.loads((folder / "vae" / "config.json").read_text())["num_encoder_blocks"]
    depth = json.loads((folder / "transformer" / "config.json").read_text())["num_layers"]
    denoiser, autoencoder = Denoiser(depth, Tokenizer()), Autoencoder(blocks)
    code, _ = export.load(folder, denoiser, autoencoder)
    return denoiser, autoencoder, code
