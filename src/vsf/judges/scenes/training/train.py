"""Train the scene judge's network: ``python -m vsf.judges.scenes.training.train --out runs/reader.safetensors``.

One thread, about twelve minutes. Checkpoint and log lie beside the file; run again to go on where it stopped.
"""

from __future__ import annotations

import random
from collections import deque
from pathlib import Path
from typing import Annotated

import torch
import typer
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from vsf.judges.scenes.network import Reader, Scores
from vsf.judges.scenes.training.corruptions import spoil
from vsf.judges.scenes.training.data import Lesson, Truth, batch, lesson
from vsf.tiny.loop import Stage, train

BATCH = 96
NEW = 32  # lessons per step; each is seen about three times before it leaves
HELD = 6144
LEARNING_RATE = 2e-3
SETTLING = 60  # batches over which the final weights measure their normalisation


def loss(scores: Scores, truth: Truth) -> Tensor:
    """What reading wrongly costs: in bits of every answer that counts, and in distance for places."""
    things, colours = truth.thing_counts, truth.colour_counts
    parts = F.binary_cross_entropy_with_logits(scores.parts, (truth.parts > 0.5).float(), reduction="none")
    pictures = len(truth.counts)
    return (
        F.cross_entropy(scores.counts, truth.counts)
        + F.cross_entropy(scores.objects[things], truth.objects[things])
        + (parts * truth.part_counts).sum() / pictures
        + F.cross_entropy(scores.colours[colours], truth.colours[colours])
        + F.cross_entropy(scores.backgrounds, truth.backgrounds)
        + F.cross_entropy(scores.styles, truth.styles)
        + 20 * F.smooth_l1_loss(scores.places[things], truth.places[things], beta=0.02)
        + 20 * F.smooth_l1_loss(scores.horizons, truth.horizons, beta=0.02)
    )


class Course:
    """The lessons held at a step: those of the last steps, so that a resumed run sees what it would have seen."""

    def __init__(self, seed: int) -> None:
        self.seed, self.next = seed, 0
        self.held: deque[Lesson] = deque(maxlen=HELD)

    def visit(self, step: int) -> tuple[Tensor, Truth]:
        """The images and the truth of one step."""
        end = HELD + step * NEW
        for index in range(max(self.next, end - HELD), end):
            self.held.append(lesson(self.seed, index))
        self.next = end
        rng = random.Random(f"{self.seed}/{step}")
        torch.manual_seed(rng.getrandbits(63))
        images, truth = batch(rng.choices(self.held, k=BATCH), rng)
        return spoil(images, rng), truth


def main(
    out: Annotated[Path, typer.Option(help="The file of weights to write.")],
    seed: Annotated[int, typer.Option(help="Decides the first weights and all pictures.")] = 0,
    steps: Annotated[int, typer.Option(help="Batches of 96 pictures.")] = 2000,
) -> None:
    """Train the reader; run again to go on where it stopped."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    course, reader = Course(seed), Reader().to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def step_loss(step: int) -> Tensor:
        images, truth = course.visit(step)
        return loss(reader(images), truth)

    out.parent.mkdir(parents=True, exist_ok=True)
    average = train(Stage("reader", reader, steps, LEARNING_RATE, step_loss), out.parent, torch.device("cpu"))
    settle(average, course, steps)
    save_file({name: value.contiguous().half() for name, value in average.state_dict().items()}, out)


@torch.no_grad()
def settle(reader: nn.Module, course: Course, step: int) -> None:
    """Measure the normalisation statistics anew: those of the averaged weights are not the average of statistics."""
    for module in reader.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # the plain mean over all batches
    reader.train()
    for offset in range(SETTLING):
        reader(course.visit(step + offset)[0])
    reader.eval()


if __name__ == "__main__":
    typer.run(main)
