"""The clock of a clip: which of its frames, and which seconds of it, each frame of tokens stands for."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from jaxtyping import Float
from torch import Tensor

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Clock:
    """When the frames of tokens of a clip are shown.

    Attributes:
        covered: how many frames of the clip each frame of tokens stands for; 0 for one that is no part of the clip,
            such as a reference picture among its frames.
        rate: frames per second; None where it is not known.
    """

    covered: tuple[int, ...]
    rate: float | None = None

    @property
    def length(self) -> int:
        """The number of frames of the clip."""
        return sum(self.covered)

    @property
    def intervals(self) -> tuple[Interval, ...]:
        """The first frame of the clip that each frame of tokens stands for, and the one behind the last."""
        stops = list(accumulate(self.covered))
        return tuple((stop - frames, stop) for stop, frames in zip(stops, self.covered, strict=True))

    def overlap(self, others: Sequence[Interval]) -> Float[Tensor, "frames others"]:
        """Return the share of each frame of tokens that lies in other intervals of the clip, counted in its frames.

        All of a frame and none of it are exactly 1 and 0, also where several intervals share it and are added up.
        """
        token_frames = torch.tensor(self.intervals, dtype=torch.float64).reshape(-1, 1, 2)
        ranges = torch.tensor(others, dtype=torch.float64)
        start = torch.maximum(token_frames[..., 0], ranges[:, 0])
        stop = torch.minimum(token_frames[..., 1], ranges[:, 1])
        length = (token_frames[..., 1] - token_frames[..., 0]).clamp(
            min=1
        )  # one that stands for no frame overlaps nothing
        return (stop - start).clamp(min=0) / length


def causal_frames(latents: int, ratio: int, *, before: int = 0, patch: int = 1) -> tuple[int, ...]:
    """Return how many frames each frame of tokens stands for under a causal autoencoder.

    Its first latent frame is one frame of the clip, every other one is `ratio` of them.

    Args:
        latents: how many latent frames there are.
        ratio: frames of the clip to a latent frame.
        before: how many of the latents stand before the clip and are no part of it.
        patch: how many latent frames one frame of tokens holds.
    """
    of_latents = [0] * before + [1] + [ratio] * (latents - before - 1)
    covered = []
    for first in range(0, latents, patch):
        covered.append(sum(of_latents[first : first + patch]))
    return tuple(covered)
