"""The training loop that the three stages share: schedule, moving average, checkpoints, log, progress."""

from __future__ import annotations

import copy
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

WARM_UP = 150
CHECKPOINT_EVERY = 200
LOG_EVERY = 50


@dataclass
class Stage:
    """One network and how long to train it.

    ``loss`` maps the step number to a scalar; it draws its own randomness from that number, so that a resumed run
    goes on as the uninterrupted one would.
    """

    name: str
    network: nn.Module
    steps: int
    learning_rate: float
    loss: Callable[[int], Tensor]


def rate(step: int, steps: int, peak: float) -> float:
    """Return the learning rate of a step: linear warm-up, then linear decay to zero."""
    return peak * min(1.0, (step + 1) / WARM_UP) * (1 - step / steps)


def train(stage: Stage, folder: Path, device: torch.device) -> nn.Module:
    """Run a stage to its end, from its checkpoint if there is one, and return the moving average of its weights."""
    network = stage.network.to(device)
    average = copy.deepcopy(network).requires_grad_(False)
    optimizer = torch.optim.AdamW(network.parameters(), stage.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    checkpoint = folder / f"{stage.name}.pt"
    first = _resume(checkpoint, network, average, optimizer)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress, (folder / "log.jsonl").open("a") as log:
        task = progress.add_task(stage.name, total=stage.steps, completed=first)
        running = 0.0
        began = time.monotonic()
        for step in range(first, stage.steps):
            for group in optimizer.param_groups:
                group["lr"] = rate(step, stage.steps, stage.learning_rate)
            loss = stage.loss(step)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            # Early on the average forgets faster, so that it does not hold on to the initial weights.
            _follow(average, network, min(0.999, (1 + step) / (10 + step)))
            running += loss.item() / LOG_EVERY
            progress.update(task, completed=step + 1)
            if (step + 1) % LOG_EVERY == 0:
                line = {"stage": stage.name, "step": step + 1, "loss": round(running, 5)}
                log.write(json.dumps({**line, "seconds": round(time.monotonic() - began, 1)}) + "\n")
                log.flush()
                running = 0.0
            if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == stage.steps:
                _save(checkpoint, step + 1, network, average, optimizer)
    return average


@torch.no_grad()
def _follow(average: nn.Module, network: nn.Module, keep: float) -> None:
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - keep)


def _save(path: Path, step: int, network: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    state = {"step": step, "network": network.state_dict(), "average": average.state_dict()}
    # Moved into place once it is complete, so that a run stopped here still has its older checkpoint.
    torch.save({**state, "optimizer": optimizer.state_dict()}, path.with_suffix(".part"))
    os.replace(path.with_suffix(".part"), path)


def _resume(path: Path, network: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    if not path.exists():
        return 0
    state = _read(path)
    network.load_state_dict(state["network"])
    average.load_state_dict(state["average"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


def first_step(path: Path) -> int:
    """Return the step at which training from this checkpoint resumes."""
    return int(_read(path)["step"]) if path.exists() else 0


def load_average(path: Path, steps: int, network: nn.Module) -> bool:
    """Load a finished stage's averaged weights into the network; return False if the stage is not finished."""
    if first_step(path) < steps:
        return False
    network.load_state_dict(_read(path)["average"])
    return True


def _read(path: Path) -> dict[str, Any]:
    return torch.load(path, map_location="cpu", weights_only=True)
