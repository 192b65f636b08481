"""The region in which a negative prompt acts: a mask or a box in the picture, and a range of a clip's time."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vsf.controls.clock import Clock
from vsf.controls.grid import Grid
from vsf.errors import KnobError

Range = tuple[float | None, float | None]
"""A beginning and an end, which is not included; None for those of the clip."""


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """The strength of guidance on each part of the picture and of the clip, 0 (not at all) to 1.

    Attributes:
        mask: a tensor (height, width) of numbers from 0 to 1, of any size; one of (frames, height, width), whose frames
            are spread evenly over a clip; a PIL image, white = 1; or a box (left, top, right, bottom) in fractions of
            width and height. None for all of the picture.
        frames: the first frame of a clip in which guidance acts, counted from 0, and the first in which it no longer
            does; either may be None.
        seconds: the same in seconds.
        rate: frames per second; None to leave that to the clip's clock.

    Raises:
        KnobError: the mask or a range is anything else.
    """

    mask: Any = None
    frames: Range | None = None
    seconds: Range | None = None
    rate: float | None = None
    _by_grid: dict[tuple[object, ...], Tensor] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "mask", _checked_mask(self.mask))
        for name in ("frames", "seconds"):
            _check_range(name, getattr(self, name))
        if self.frames is not None and self.seconds is not None:
            raise KnobError("give the time as frames= or as seconds=, not both")
        if self.rate is not None and self.seconds is None:
            raise KnobError("fps= is for seconds=: leave it out, or give the time in seconds")
        if self.rate is not None and not (_is_number(self.rate) and 0 < self.rate < inf):
            raise KnobError(f"fps is a number above 0, frames per second, got {self.rate!r}")

    @property
    def is_timed(self) -> bool:
        """True if it is not the same for all frames of a clip, so that the clip's clock is needed."""
        has_frames = isinstance(self.mask, Tensor) and self.mask.dim() == 3
        return has_frames or self.frames is not None or self.seconds is not None

    def on(self, grid: Grid, device: torch.device | None = None) -> Float[Tensor, "frames height width"]:
        """Return the mean of the region over each cell of a grid; a cell that is all 0 or all 1 is exactly that.

        Args:
            grid: with its clock where the region is timed.
            device: where the result is made, and kept for the next call; None for that of the mask.

        Raises:
            KnobError: the region is timed and the grid has no clock, or no part of it lies in the clip.
        """
        # The same few grids are asked for again and again, and copying to the device waits for it.
        clock = None if grid.clock is None else (grid.clock.covered, grid.clock.rate)
        key = grid.height, grid.width, grid.frames, clock, device
        if key not in self._by_grid:
            cells = self._cells(grid)
            self._by_grid[key] = cells if device is None else cells.to(device)
        return self._by_grid[key]

    def on_tokens(self, tokens: int, grid: Grid, device: torch.device | None = None) -> Float[Tensor, " tokens"]:
        """Return the same for each image token of a layer: 1 for sound, 0 for others that are no part of the picture.

        Args:
            tokens: how many image tokens the layer has.
            grid: of the finest layers.
            device: as `on` takes it.

        Raises:
            LayoutError: the tokens do not lie on the grid.
            KnobError: as `on` raises.
        """
        fitted = grid.fit(tokens)
        on_grid = self.on(fitted, device).flatten()
        sound_and_grid = torch.cat([on_grid.new_ones(fitted.sound), on_grid])
        return F.pad(sound_and_grid, (fitted.before - fitted.sound, tokens - fitted.before - fitted.tokens))

    def _cells(self, grid: Grid) -> Float[Tensor, "frames height width"]:
        picture = self._picture(grid)
        if not self.is_timed:
            return picture.expand(grid.frames, -1, -1)
        if grid.clock is None:
            raise KnobError("a region with a time needs a clip whose frames are known; leave frames= and seconds= out")
        if picture.shape[0] > 1:
            picture = _spread(picture, grid.clock)
        if self.frames is None and self.seconds is None:
            return picture.expand(grid.frames, -1, -1)
        return picture * self._share_of_time(grid.clock)[:, None, None]

    def _picture(self, grid: Grid) -> Float[Tensor, "mask_frames height width"]:
        """Return the mean of the mask over each cell of a frame, for every frame of the mask or once for all."""
        if self.mask is None:
            return torch.ones(1, grid.height, grid.width)
        if isinstance(self.mask, Tensor):
            mask = self.mask.detach().float()
            mask = mask[None] if mask.dim() == 2 else mask
            return F.adaptive_avg_pool2d(mask[:, None], (grid.height, grid.width))[:, 0].clamp(0, 1)
        left, top, right, bottom = self.mask
        return (_covered(top, bottom, grid.height)[:, None] * _covered(left, right, grid.width))[None]

    def _share_of_time(self, clock: Clock) -> Float[Tensor, " frames"]:
        """Return the share of each frame of tokens that lies in the range."""
        per_unit = 1.0
        unit = "frames"
        if self.seconds is not None:
            unit = "seconds"
            rate = self.rate or clock.rate
            if rate is None:
                raise KnobError("how many frames a second has is not known: give fps=")
            per_unit = rate
        start, stop = self.seconds or self.frames or (None, None)
        first = 0.0 if start is None else start * per_unit
        behind = inf if stop is None else stop * per_unit
        if first >= clock.length:
            raise KnobError(
                f"{unit} begins at {start:g}, and the clip ends at {clock.length / per_unit:g}: nothing would be guided"
            )
        return clock.overlap([(first, behind)])[:, 0].float()


def _spread(frames: Float[Tensor, "mask_frames height width"], clock: Clock) -> Float[Tensor, "frames height width"]:
    """Average the frames of a mask, spread evenly over the clip, over the time of each frame of tokens."""
    count = len(frames)
    edges = [number * clock.length / count for number in range(count + 1)]
    shares = clock.overlap(list(pairwise(edges)))
    averages = torch.einsum("tm,mhw->thw", shares, frames.cpu().double())
    return averages.float().clamp(0, 1)


def _checked_mask(mask: Any) -> Any:
    """Return a mask as a tensor, a box or None. Raises KnobError for anything else."""
    if hasattr(mask, "convert") and hasattr(mask, "tobytes"):
        mask = _from_image(mask)
    if isinstance(mask, Tensor):
        _check_tensor(mask)
    elif mask is not None and not _is_box(mask):
        raise KnobError(
            "mask is a tensor (height, width) or (frames, height, width), a PIL image, or a box (left, top, right, "
            f"bottom) in fractions with 0 <= left < right <= 1 and 0 <= top < bottom <= 1, got {mask!r}"
        )
    return mask


def _from_image(image: Any) -> Tensor:
    """Read the brightness of a PIL image."""
    grey = image.convert("L")
    # A copy of the bytes, because torch warns about a buffer that it must not write to.
    return torch.frombuffer(bytearray(grey.tobytes()), dtype=torch.uint8).reshape(grey.height, grey.width) / 255


def _check_tensor(mask: Tensor) -> None:
    """Raise KnobError unless a mask is ([frames,] height, width) with numbers from 0 to 1."""
    if mask.dim() not in (2, 3) or mask.numel() == 0:
        raise KnobError(f"a mask is (height, width) or (frames, height, width), got {tuple(mask.shape)}")
    if not bool(((mask >= 0) & (mask <= 1)).all()):
        raise KnobError(f"a mask holds numbers from 0 to 1, got {float(mask.min()):g} to {float(mask.max()):g}")


def _is_box(mask: object) -> bool:
    """Tell whether a mask is (left, top, right, bottom) in fractions of width and height."""
    if not isinstance(mask, Sequence) or len(mask) != 4:
        return False
    if not all(_is_number(edge) for edge in mask):
        return False
    left, top, right, bottom = mask
    return 0 <= left < right <= 1 and 0 <= top < bottom <= 1


def _check_range(name: str, limits: object) -> None:
    """Raise KnobError unless a range has a beginning and a later end, either of which may be left open."""
    if limits is not None and not _is_range(limits):
        raise KnobError(
            f"{name} is (start, stop) with 0 <= start < stop, such as {name}=(2, 4); None leaves one open, "
            f"got {limits!r}"
        )


def _is_range(limits: object) -> bool:
    if not isinstance(limits, Sequence) or isinstance(limits, str) or len(limits) != 2:
        return False
    start, stop = limits
    for limit in (start, stop):
        if limit is not None and not (_is_number(limit) and 0 <= limit < inf):
            return False
    return stop is None or (start or 0) < stop


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _covered(start: float, stop: float, cells: int) -> Float[Tensor, " cells"]:
    """Return the share of each of these equal cells that lies between two fractions of the whole length."""
    first = torch.arange(cells, dtype=torch.float32)
    return (stop * cells - first).clamp(0, 1) - (start * cells - first).clamp(0, 1)
