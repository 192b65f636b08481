"""Facts that tests need about each tiny model, on the stub and on a real host alike."""

from dataclasses import dataclass
from typing import Literal

import torch


@dataclass(frozen=True)
class Case:
    """One model.

    Attributes:
        name: Name of the model in the host's table.
        shape: Shape of its latents.
        channels: Channels of its text.
        pooled: Channels of the pooled text; 0 for none.
        masked: Whether conditionings have a mask.
        kind: "joint" if text and image attend together, "cross" if the image attends to the text.
        image: Image tokens.
        filling: Tokens that pad the image.
        text_multiple: Multiple that texts are padded to.
        image_first: Whether the image precedes the text.
        left_padded: Length to which the model pads texts at their beginning; 0 if it does not.
        time: A noise level.
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
        """Return random text in the form of the host's encoders."""
        generator = torch.Generator().manual_seed(seed)
        extra = {}
        if self.pooled:
            extra["pooled_output"] = torch.randn(1, self.pooled, generator=generator)
        if self.masked:
            extra["attention_mask"] = torch.ones(1, tokens, dtype=torch.long)
        return [[torch.randn(1, tokens, self.channels, generator=generator), extra]]

    def latents(self, seed: int) -> torch.Tensor:
        """Return random latents."""
        return torch.randn(self.shape, generator=torch.Generator().manual_seed(seed))


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """Return the L2 distance relative to the norm of `b`."""
    return float((a.double() - b.double()).norm() / b.double().norm())
