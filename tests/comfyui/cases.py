"""Tiny models to guide: what a test has to know about each, on the stub and on a real host alike."""

from dataclasses import dataclass
from typing import Literal

import torch


@dataclass(frozen=True)
class Case:
    """One model.

    shape: of its latents. channels: of its text. pooled: channels of the pooled text, 0 for none. masked: whether
    conditionings carry a mask. image: image tokens. filling: tokens that fill the image up. text_multiple: what texts
    are filled up to. left_padded: tokens to which the model pads texts at their beginning. time: a noise level.
    """

    name: str
    shape: tuple[int, ...]
    channels: int = 20
    pooled: int = 24
    masked: bool = False
    kind: Literal["joint", "cross"] = "joint"
    image: int = 16
    filling: int = 0
    text_multiple: int = 1
    image_first: bool = False
    left_padded: int = 0
    time: float = 0.7

    def conditioning(self, tokens: int, seed: int) -> list:
        """Random text as the host's encoders hand it over."""
        generator = torch.Generator().manual_seed(seed)
        extra = {}
        if self.pooled:
            extra["pooled_output"] = torch.randn(1, self.pooled, generator=generator)
        if self.masked:
            extra["attention_mask"] = torch.ones(1, tokens, dtype=torch.long)
        return [[torch.randn(1, tokens, self.channels, generator=generator), extra]]

    def latents(self, seed: int) -> torch.Tensor:
        """Random latents."""
        return torch.randn(self.shape, generator=torch.Generator().manual_seed(seed))


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """Relative L2 distance."""
    return float((a.double() - b.double()).norm() / b.double().norm())
