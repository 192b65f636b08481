"""The small network that reads which scene a synthetic image shows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vsf.tiny.scenes import BACKGROUNDS, COLOURS, OBJECTS, PARTS, STYLES

SIDE = 64  # pixels
SLOTS = 2  # the only or the left thing, and the right one
COUNTS = ("nothing", "one", "two", "loose")
_SHAPES = {
    "counts": (len(COUNTS),),
    "objects": (SLOTS, len(OBJECTS)),
    "parts": (SLOTS, len(PARTS)),
    "colours": (SLOTS, len(COLOURS)),
    "places": (SLOTS, 2),
    "backgrounds": (len(BACKGROUNDS),),
    "styles": (len(STYLES),),
    "horizons": (1,),
}


@dataclass(frozen=True)
class Scores:
    """The network's outputs for a batch: logits, except for places and horizons, which are the values themselves.

    A place is (x, size) of a thing. Places and horizons are fractions of the image.
    """

    counts: Float[Tensor, "batch 4"]
    objects: Float[Tensor, "batch slots objects"]
    parts: Float[Tensor, "batch slots parts"]
    colours: Float[Tensor, "batch slots colours"]
    places: Float[Tensor, "batch slots 2"]
    backgrounds: Float[Tensor, "batch backgrounds"]
    styles: Float[Tensor, "batch styles"]
    horizons: Float[Tensor, "batch 1"]


class Reader(nn.Module):
    """Strided convolutions with two residual blocks, then two dense layers over all positions; 0.6 M parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.see = nn.Sequential(
            *_halve(3, 24),
            *_halve(24, 48),
            Residual(48),
            *_halve(48, 96),
            Residual(96),
            nn.Conv2d(96, 24, 1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(24 * (SIDE // 8) ** 2, 192),
            nn.ReLU(),
        )
        self.heads = nn.ModuleDict({name: nn.Linear(192, _size(shape)) for name, shape in _SHAPES.items()})

    def forward(self, images: Float[Tensor, "batch 3 64 64"]) -> Scores:
        """Score images with values from 0 to 1."""
        features = self.see((images * 4 - 2).contiguous(memory_format=torch.channels_last))
        scores = {name: self.heads[name](features).unflatten(1, shape) for name, shape in _SHAPES.items()}
        # Centred on typical values, so that the regressions start close and weigh about as much as the logits.
        scores["places"] = 0.55 + 0.2 * scores["places"]
        scores["horizons"] = 0.67 + 0.1 * scores["horizons"]
        return Scores(**scores)


class Residual(nn.Module):
    """Two 3 × 3 convolutions with a skip connection."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)])

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch channels height width"]:
        """Apply the block, which keeps the shape."""
        hidden = F.relu(self.norms[0](self.first(x)))
        return F.relu(x + self.norms[1](self.second(hidden)))


def _halve(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]


def _size(shape: tuple[int, ...]) -> int:
    return shape[0] if len(shape) == 1 else shape[0] * shape[1]
