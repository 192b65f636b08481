"""The small network that reads which scene a picture of the world shows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vsf.tiny.world.colours import COLOURS
from vsf.tiny.world.objects import OBJECTS, PARTS
from vsf.tiny.world.places import PLACE_PARTS, PLACES
from vsf.tiny.world.styles import STYLES

SIDE = 128
"""Side of a picture, in pixels."""
CELLS = 16
"""Cells along each side; the network describes each cell as if it were the middle of a thing."""

_THING_SHAPES = {
    "centre": 1,
    "is_object": 1,
    "objects": len(OBJECTS),
    "colours": len(COLOURS),
    "parts": len(PARTS),
    "boxes": 3,
}
_SCENE_SHAPES = {"places": len(PLACES), "place_parts": len(PLACE_PARTS), "styles": len(STYLES), "horizon": 1}
_GROUPS = 8  # of channels that are normalised together


@dataclass(frozen=True)
class Scores:
    """The network's outputs for a batch: logits, except for boxes and horizons, which are the values themselves.

    Attributes:
        centre: Whether a thing's middle lies in a cell.
        is_object: Whether that thing is an object, rather than a part alone.
        objects: Which object it is, or which a part belongs to.
        colours: Its colour.
        parts: Which parts it has.
        boxes: x and y of its middle and its size, in fractions of the picture.
        places: Which place the scene is in.
        place_parts: Which parts the place has.
        styles: Which style the scene is drawn in.
        horizon: Height of the horizon, measured down from the top, in fractions of the picture.
    """

    centre: Float[Tensor, "batch 1 cells cells"]
    is_object: Float[Tensor, "batch 1 cells cells"]
    objects: Float[Tensor, "batch objects cells cells"]
    colours: Float[Tensor, "batch colours cells cells"]
    parts: Float[Tensor, "batch parts cells cells"]
    boxes: Float[Tensor, "batch 3 cells cells"]
    places: Float[Tensor, "batch places"]
    place_parts: Float[Tensor, "batch place_parts"]
    styles: Float[Tensor, "batch styles"]
    horizon: Float[Tensor, "batch 1"]


class Reader(nn.Module):
    """Strided convolutions and residual blocks that see nearly the whole picture from each cell; 0.8 M parameters."""

    cell_middles: Float[Tensor, "2 cells cells"]

    def __init__(self) -> None:
        super().__init__()
        self.see = nn.Sequential(
            *_halve(3, 24),
            *_halve(24, 48),
            Residual(48),
            *_halve(48, 96),
            Residual(96),
            Residual(96, dilation=2),
        )
        self.things = nn.Conv2d(96, sum(_THING_SHAPES.values()), 1)
        self.overlook = nn.Sequential(
            nn.Conv2d(96, 12, 1), nn.ReLU(), nn.Flatten(), nn.Linear(12 * CELLS**2, 128), nn.ReLU()
        )
        self.scene = nn.Linear(128, sum(_SCENE_SHAPES.values()))
        assert self.things.bias is not None
        # Few cells hold a middle: start from that, not from one half.
        nn.init.constant_(self.things.bias[:1], -4.0)
        cell_middles = (torch.arange(CELLS) + 0.5) / CELLS
        rows, columns = torch.meshgrid(cell_middles, cell_middles, indexing="ij")
        self.register_buffer("cell_middles", torch.stack([columns, rows]), persistent=False)

    def forward(self, pictures: Float[Tensor, "batch 3 128 128"]) -> Scores:
        """Score pictures with values from 0 to 1."""
        features = self.see((pictures * 4 - 2).contiguous(memory_format=torch.channels_last))
        of_things = dict(zip(_THING_SHAPES, self.things(features).split([*_THING_SHAPES.values()], 1), strict=True))
        of_scene = self.scene(self.overlook(features)).split([*_SCENE_SHAPES.values()], 1)
        # Middles are told from the cell's own, sizes and horizons from typical ones, so that regression starts close.
        middles = self.cell_middles + of_things["boxes"][:, :2] / CELLS
        sizes = 0.5 + 0.15 * of_things["boxes"][:, 2:]
        scores = {**of_things, **dict(zip(_SCENE_SHAPES, of_scene, strict=True))}
        scores["boxes"] = torch.cat([middles, sizes], 1)
        scores["horizon"] = 0.67 + 0.05 * scores["horizon"]
        return Scores(**scores)


class Residual(nn.Module):
    """Two 3 × 3 convolutions with a skip connection."""

    def __init__(self, channels: int, dilation: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, bias=False)
        self.second = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, bias=False)
        self.norms = nn.ModuleList([nn.GroupNorm(_GROUPS, channels), nn.GroupNorm(_GROUPS, channels)])

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch channels height width"]:
        """Apply the block, which keeps the shape."""
        hidden = F.relu(self.norms[0](self.first(x)))
        return F.relu(x + self.norms[1](self.second(hidden)))


def _halve(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False), nn.GroupNorm(_GROUPS, outputs), nn.ReLU()]
