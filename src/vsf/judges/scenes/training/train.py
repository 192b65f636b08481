"""Train the scene judge's network: ``python -m vsf.judges.scenes.training.train --out runs/reader.safetensors``.

It takes about twelve minutes on one thread. Checkpoint and log lie beside the file; run it again to continue.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from vsf.judges.scenes.network import Reader, Scores
from vsf.judges.scenes.training.corruptions import corrupt
from vsf.judges.scenes.training.data import Sample, Targets, batch, sample
from vsf.judges.scenes.training.replay import ReplayBuffer
from vsf.tiny.loop import Stage, train

BATCH = 96
NEW = 32  # samples per step; each is drawn about three times before it leaves the buffer
HELD = 6144  # samples in the buffer
LEARNING_RATE = 2e-3
SETTLING = 60  # batches over which the final weights measure their normalisation statistics
Replay = ReplayBuffer[Sample, tuple[Tensor, Targets]]


def loss(scores: Scores, targets: Targets) -> Tensor:
    """Return the loss: cross entropies of all answers that count, and distances of places and horizons."""
    things = targets.thing_counts
    colours = targets.colour_counts
    is_present = (targets.parts > 0.5).float()
    parts = F.binary_cross_entropy_with_logits(scores.parts, is_present, reduction="none")
    # Parts are summed, not averaged: every one of an image's many parts should weigh as much as its object.
    return (
        F.cross_entropy(scores.counts, targets.counts)
        + F.cross_entropy(scores.objects[things], targets.objects[things])
        + (parts * targets.part_counts).sum() / len(targets.counts)
        + F.cross_entropy(scores.colours[colours], targets.colours[colours])
        + F.cross_entropy(scores.backgrounds, targets.backgrounds)
        + F.cross_entropy(scores.styles, targets.styles)
        + 20 * F.smooth_l1_loss(scores.places[things], targets.places[things], beta=0.02)
        + 20 * F.smooth_l1_loss(scores.horizons, targets.horizons, beta=0.02)
    )


def replay_buffer(seed: int) -> Replay:
    """Return the buffer that every step's batch comes from."""
    return ReplayBuffer(seed, sample, corrupted_batch, size=BATCH, new=NEW, held=HELD)


def corrupted_batch(samples: Sequence[Sample], rng: random.Random) -> tuple[Tensor, Targets]:
    """Return a batch of corrupted images with their targets."""
    images, targets = batch(samples, rng)
    return corrupt(images, rng), targets


def main(
    out: Annotated[Path, typer.Option(help="The file of weights to write.")],
    seed: Annotated[int, typer.Option(help="Decides the first weights and all pictures.")] = 0,
    steps: Annotated[int, typer.Option(help="Batches of 96 pictures.")] = 2000,
) -> None:
    """Train the network; run again to continue where it stopped."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    samples = replay_buffer(seed)
    reader = Reader().to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def step_loss(step: int) -> Tensor:
        images, targets = samples.draw_batch(step)
        return loss(reader(images), targets)

    out.parent.mkdir(parents=True, exist_ok=True)
    average = train(Stage("reader", reader, steps, LEARNING_RATE, step_loss), out.parent, torch.device("cpu"))
    settle(average, samples, steps)
    weights = {name: value.contiguous().half() for name, value in average.state_dict().items()}
    save_file(weights, out)


@torch.no_grad()
def settle(reader: nn.Module, samples: Replay, step: int) -> None:
    """Measure the batch norm statistics again: those of averaged weights are not the average of the statistics."""
    for module in reader.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # the plain mean over all batches, instead of a moving one
    reader.train()
    for offset in range(SETTLING):
        images, _ = samples.draw_batch(step + offset)
        reader(images)
    reader.eval()


if __name__ == "__main__":
    typer.run(main)
