"""Draw held-out captions with an exported folder, for a look at its pictures."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from vsf.tiny.training import export, losses
from vsf.tiny.training.autoencoder import CHANNELS, Autoencoder, Latents, Pixels, to_pixels
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
    round trip in dB and, for each row, its hard edges as a share of those of the renders.
    """
    denoiser, autoencoder, code = read(folder)
    rng = random.Random(0)
    captions = [caption(scene, rng) for scene in held_out_scenes()]
    renders = to_pixels(held_out_renders()[0])
    rows = {"autoencoder": _round_trip(autoencoder, renders)}
    for scale, steps in SETTINGS:
        latents = draw(denoiser, captions, scale, steps)
        rows[f"guidance {scale}, {steps} steps"] = _decode(autoencoder, latents / code.scale + code.shift)
    write_sheet(folder.with_suffix(".png"), [row[:COLUMNS] for row in (renders, *rows.values())])
    print("\n".join(captions[:COLUMNS]))
    edges_of_renders = hard_edges(renders)
    edges: dict[str, float] = {}
    for name, row in rows.items():
        edges[name] = round(hard_edges(row) / edges_of_renders, 3)
    print(json.dumps({**round_trip_db(autoencoder, torch.device("cpu")), "hard_edges": edges}))


@torch.no_grad()
def draw(denoiser: Denoiser, captions: Sequence[str], scale: float, steps: int) -> Latents:
    """Return latents for captions, with classifier-free guidance unless ``scale`` is 1."""
    tokenizer = Tokenizer()
    noise = torch.randn(len(captions), CHANNELS, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    tokens = torch.tensor([tokenizer(text) for text in captions])
    empty = torch.tensor(tokenizer(""))

    def draw_batch(texts: Tensor, start: Latents) -> Latents:
        def velocity(latents: Latents, sigma: Tensor) -> Latents:
            conditional: Tensor = denoiser(latents, sigma, texts)
            if scale == 1:
                return conditional
            return torch.lerp(denoiser(latents, sigma, empty.expand_as(texts)), conditional, scale)

        return losses.sample(velocity, steps, start)

    batches: list[Latents] = []
    for texts, start in zip(tokens.split(32), noise.split(32), strict=True):
        batches.append(draw_batch(texts, start))
    return torch.cat(batches)


def read(folder: Path) -> tuple[Denoiser, Autoencoder, export.Code]:
    """Read the networks of an exported folder, and how its latents are scaled."""
    blocks = json.loads((folder / "vae" / "config.json").read_text())["num_encoder_blocks"]
    depth = json.loads((folder / "transformer" / "config.json").read_text())["num_layers"]
    denoiser = Denoiser(depth, Tokenizer())
    autoencoder = Autoencoder(blocks)
    code, _ = export.load(folder, denoiser, autoencoder)
    return denoiser, autoencoder, code


@torch.no_grad()
def _round_trip(autoencoder: Autoencoder, pixels: Pixels) -> Pixels:
    return torch.cat([autoencoder.decoder(autoencoder.encoder(batch)) for batch in pixels.split(16)])


@torch.no_grad()
def _decode(autoencoder: Autoencoder, latents: Latents) -> Pixels:
    return torch.cat([autoencoder.decoder(batch) for batch in latents.split(16)])
