"""The training loop that all stages share: schedule, moving average, checkpoints, log."""

from __future__ import annotations

import copy
import hashlib
import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from vsf.tiny.training.optimizer import MuonAdamW

WARM_UP = 100
"""Steps until the learning rate is at its peak."""
DECAY = 0.4
"""Share of a stage, at its end, in which the learning rate falls to zero."""
AVERAGING = 0.999
"""Decay of the moving average of the weights, once it has warmed up."""
LOG_SECONDS = 20


@dataclass
class Stage:
    """One network and how to train it.

    Attributes:
        name: Name of the checkpoint, and of the stage in the log.
        network: The network that is averaged and saved.
        trained: The part of it that learns.
        images: Images to visit in all; 0 skips the stage.
        batch: Images of one step.
        rate: Peak learning rate.
        loss: Takes the share of the stage that is done, and a generator whose seed depends on the step alone.
        slow: Prefix of the names of those parameters that learn at a quarter of the rate.
        export: Called with the moving average and the images visited whenever a checkpoint is written.
        seconds: Ends the stage after this time even if images are left, with the learning rate at zero all the same;
            0 is no limit.
    """

    name: str
    network: nn.Module
    trained: nn.Module
    images: int
    batch: int
    rate: float
    loss: Callable[[float, torch.Generator], Tensor]
    slow: str = ""
    export: Callable[[nn.Module, int], None] | None = None
    seconds: float = 0.0

    @property
    def steps(self) -> int:
        """Steps in all."""
        return -(-self.images // self.batch)


class Run:
    """A folder with a log and checkpoints; a stopped run resumes from them with the same result as an unbroken one.

    Args:
        folder: Created if missing.
        device: Where networks are trained.
        seed: Seed of every step's random numbers.
        save_seconds: Time between checkpoints.
    """

    def __init__(self, folder: Path, device: torch.device, seed: int, save_seconds: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.device = device
        self._seed = seed
        self._save_seconds = save_seconds

    def cast(self) -> AbstractContextManager[object]:
        """Return the context that networks run in: bfloat16 on a GPU."""
        return torch.autocast("cuda", torch.bfloat16) if self.device.type == "cuda" else nullcontext()

    def log(self, **entry: object) -> None:
        """Print an entry as a line of JSON and append it to the log."""
        line = json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%S"), **entry})
        print(line, flush=True)
        with (self.folder / "log.jsonl").open("a") as log:
            log.write(line + "\n")

    def train(self, stage: Stage, images_before: int = 0) -> nn.Module:
        """Run a stage to its end, from its checkpoint if there is one.

        Args:
            stage: The network, and how to train it.
            images_before: Images that the network had visited before, in another run whose export it began from.

        Returns:
            A copy of the network with the moving average of its weights.
        """
        average = copy.deepcopy(stage.network).requires_grad_(False)
        if not stage.images:
            return average
        optimizer = MuonAdamW(list(stage.trained.named_parameters()), stage.rate, stage.slow)
        first = images_before // stage.batch
        step, seconds_before = self._resume(stage, average, optimizer, first)
        generator = torch.Generator(self.device)
        saved = reported = time.monotonic()
        # The clock goes on from the checkpoint, so that a time limit covers all runs of a stage together.
        began = saved - seconds_before
        logged_steps = 0
        # Summed on the device: reading it in every step would make the CPU wait for the GPU.
        logged_loss = torch.zeros((), device=self.device)
        while (done := _share_done(stage, step, time.monotonic() - began)) < 1:
            generator.manual_seed(_step_seed(self._seed, stage.name, step))
            with self.cast():
                loss = stage.loss(done, generator)
            loss.backward()
            nn.utils.clip_grad_norm_(stage.trained.parameters(), 1.0)
            # The optimizer starts anew after an export, so its warm-up counts from the first step of this run.
            optimizer.step(rate_share(step - first, done))
            optimizer.zero_grad()
            # Early on the average forgets faster, so that it does not hold on to the initial weights.
            _update_average(average, stage.network, min(AVERAGING, (1 + step) / (10 + step)))
            step += 1
            logged_steps += 1
            logged_loss += loss.detach()
            finished = _share_done(stage, step, time.monotonic() - began) >= 1
            if (seconds := time.monotonic() - reported) > LOG_SECONDS or finished:
                self.log(
                    stage=stage.name,
                    images=step * stage.batch,
                    of=stage.images,
                    loss=round(logged_loss.item() / logged_steps, 5),
                    images_per_s=round(stage.batch * logged_steps / max(seconds, 1e-9), 1),
                )
                reported = time.monotonic()
                logged_steps = 0
                logged_loss = torch.zeros((), device=self.device)
            if time.monotonic() - saved > self._save_seconds or finished:
                self._save(stage, average, optimizer, step, time.monotonic() - began)
                saved = time.monotonic()
        return average

    def _resume(self, stage: Stage, average: nn.Module, optimizer: MuonAdamW, first: int) -> tuple[int, float]:
        """Read the stage's checkpoint into its networks; return the next step and the seconds spent so far."""
        path = self.folder / f"{stage.name}.pt"
        if not path.exists():
            return first, 0.0
        state = torch.load(path, map_location=self.device, weights_only=True)
        stage.network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        self.log(stage=stage.name, resumed_at_step=state["step"])
        return int(state["step"]), float(state["seconds"])

    def _save(self, stage: Stage, average: nn.Module, optimizer: MuonAdamW, step: int, seconds: float) -> None:
        """Write a checkpoint atomically, and the stage's export if it has one."""
        state = {
            "step": step,
            "seconds": seconds,
            "network": stage.network.state_dict(),
            "average": average.state_dict(),
            "optimizer": optimizer.state_dict(),
        }
        # Moved into place once it is complete, so that a run stopped here still has its older checkpoint.
        part = self.folder / f"{stage.name}.part"
        torch.save(state, part)
        part.replace(self.folder / f"{stage.name}.pt")
        if stage.export:
            stage.export(average, step * stage.batch)


def rate_share(step: int, done: float) -> float:
    """Return the learning rate as a share of its peak: linear warm-up, constant, linear decay to zero.

    Args:
        step: Steps since the optimizer began.
        done: Share of the stage that is done.
    """
    return min(1.0, (step + 1) / WARM_UP) * min(1.0, (1 - done) / DECAY)


def _share_done(stage: Stage, step: int, seconds: float) -> float:
    """Return how much of a stage is done, by images or by the clock, whichever ends it sooner."""
    share = step / stage.steps
    return max(share, seconds / stage.seconds) if stage.seconds else share


def _step_seed(seed: int, stage: str, step: int) -> int:
    """Return a different seed for every step, so that a resumed run draws the same numbers as an unbroken one."""
    digest = hashlib.blake2b(f"{seed}/{stage}/{step}".encode(), digest_size=7).digest()
    return int.from_bytes(digest, "big")


@torch.no_grad()
def _update_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - decay)
