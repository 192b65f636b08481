"""Train the judge's network: ``python -m vsf.judges.world.training.train --out runs/judge``.

Checkpoint, log and weights are in the folder; run it again to continue.
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

from vsf.judges.scenes.training.corruptions import corrupt
from vsf.judges.scenes.training.replay import ReplayBuffer
from vsf.judges.world.network import Reader, Scores
from vsf.judges.world.training.data import Sample, Targets, batch, sample
from vsf.tiny.training.loop import Run, Stage

BATCH = 48
NEW = 16  # samples per step; each is drawn about three times before it leaves the buffer
HELD = 3072  # samples in the buffer
RATE = 2e-3
Replay = ReplayBuffer[Sample, tuple[Tensor, Targets]]
_MIDDLE_WEIGHT = 8.0  # of the few cells that are middles, against the many that are not


def loss(scores: Scores, targets: Targets) -> Tensor:
    """Return the loss: cross entropies of all answers that count, and distances of boxes and horizons."""
    pictures = len(targets.places)
    is_middle = torch.zeros_like(scores.centre).flatten(1)
    is_middle[targets.rows, targets.cells] = 1
    weight = 1 + (_MIDDLE_WEIGHT - 1) * is_middle
    middles = F.binary_cross_entropy_with_logits(scores.centre.flatten(1), is_middle, weight, reduction="sum")

    def at_things(maps: Tensor) -> Tensor:
        return maps.flatten(2)[targets.rows, :, targets.cells]

    def in_all(values: Tensor) -> Tensor:
        # Summed, not averaged: every one of a picture's many parts should weigh as much as its object.
        return values.sum() / pictures

    is_present = (targets.parts > 0.5).float()
    parts = F.binary_cross_entropy_with_logits(at_things(scores.parts), is_present, reduction="none")
    place_is_present = (targets.place_parts > 0.5).float()
    place_parts = F.binary_cross_entropy_with_logits(scores.place_parts, place_is_present, reduction="none")
    bodies = targets.is_object
    colours = F.cross_entropy(at_things(scores.colours), targets.colours, reduction="none")
    is_object = F.binary_cross_entropy_with_logits(
        at_things(scores.is_object)[:, 0], targets.is_object, reduction="none"
    )
    boxes = F.smooth_l1_loss(at_things(scores.boxes), targets.boxes, beta=0.02, reduction="none")
    return (
        middles / pictures
        + in_all(F.cross_entropy(at_things(scores.objects), targets.objects, reduction="none"))
        + in_all(colours * bodies)  # a part alone has no colour that can be seen
        + in_all(is_object)
        + in_all(parts * targets.parts_count)
        + in_all(boxes) * 10
        + F.cross_entropy(scores.places, targets.places)
        + in_all(place_parts * targets.place_parts_count)
        + F.cross_entropy(scores.styles, targets.styles)
        + 20 * F.smooth_l1_loss(scores.horizon, targets.horizon, beta=0.02)
    )


def replay_buffer(seed: int) -> Replay:
    """Return the buffer that every step's batch comes from."""
    return ReplayBuffer(seed, sample, corrupted_batch, size=BATCH, new=NEW, held=HELD)


def corrupted_batch(samples: Sequence[Sample], rng: random.Random) -> tuple[Tensor, Targets]:
    """Return a batch of corrupted pictures with their targets."""
    pictures, targets = batch(samples, rng)
    return corrupt(pictures, rng, unit=2), targets


def main(
    out: Annotated[Path, typer.Option(help="Folder for checkpoint, log and weights.")],
    seed: Annotated[int, typer.Option(help="Decides the first weights and all pictures.")] = 0,
    images: Annotated[int, typer.Option(help="Pictures to train on.")] = 192_000,
) -> None:
    """Train the network; run again to continue where it stopped."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    samples = replay_buffer(seed)
    reader = Reader().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    steps = -(-images // BATCH)

    def step_loss(done: float, _: torch.Generator) -> Tensor:
        pictures, targets = samples.draw_batch(round(done * steps))
        return loss(reader(pictures), targets)

    def write(average: nn.Module, _: int) -> None:
        weights = {name: value.contiguous().half() for name, value in average.state_dict().items()}
        save_file(weights, out / "reader.safetensors")

    run = Run(out, torch.device("cpu"), seed, save_seconds=60)
    write(run.train(Stage("reader", reader, reader, images, BATCH, RATE, step_loss, export=write)), images)


if __name__ == "__main__":
    typer.run(main)
