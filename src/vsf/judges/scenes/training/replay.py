"""Batches from the training samples of the last steps, each of which is drawn several times."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import torch

Sample = TypeVar("Sample")
Batch = TypeVar("Batch")


class ReplayBuffer(Generic[Sample, Batch]):
    """The samples of the last steps; it depends on the step alone, so a resumed run sees the same batches."""

    def __init__(
        self,
        seed: int,
        sample: Callable[[int, int], Sample],
        batch: Callable[[Sequence[Sample], random.Random], Batch],
        *,
        size: int,
        new: int,
        held: int,
    ) -> None:
        """Take the way that samples are made.

        Args:
            seed: Decides all samples and batches.
            sample: Makes sample `index` of the endless sequence with a seed: sample(seed, index).
            batch: Makes a batch of samples; its random numbers come from the generator and from torch's global one.
            size: Samples of a batch.
            new: Samples that each step adds.
            held: Samples in the buffer.
        """
        self._seed = seed
        self._sample = sample
        self._batch = batch
        self._size = size
        self._new = new
        self._held = held
        self._next_index = 0
        self._samples: deque[Sample] = deque(maxlen=held)

    def draw_batch(self, step: int) -> Batch:
        """Add the new samples of a step, and draw its batch."""
        end = self._held + step * self._new
        for index in range(max(self._next_index, end - self._held), end):
            self._samples.append(self._sample(self._seed, index))
        self._next_index = end
        rng = random.Random(f"{self._seed}/{step}")
        torch.manual_seed(rng.getrandbits(63))
        return self._batch(rng.choices(self._samples, k=self._size), rng)
