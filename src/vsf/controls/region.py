"""The region of the picture in which a negative prompt acts: a mask or a box, resampled to the grid of tokens."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vsf.errors import KnobError


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """The strength of guidance on each part of the picture, 0 (not at all) to 1.

    Attributes:
        mask: a tensor (height, width) of numbers from 0 to 1, of any size; a PIL image, white = 1; or a box (left, top,
            right, bottom) in fractions of width and height.

    Raises:
        KnobError: the mask is anything else.
    """

    mask: Any
    _by_grid: dict[tuple[int, int, torch.device | None], Tensor] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        mask = self.mask
        if hasattr(mask, "convert") and hasattr(mask, "tobytes"):
            mask = _from_image(mask)
        if isinstance(mask, Tensor):
            _check_tensor(mask)
        elif not _is_box(mask):
            raise KnobError(
                "mask is a tensor (height, width), a PIL image, or a box (left, top, right, bottom) in fractions with "
                f"0 <= left < right <= 1 and 0 <= top < bottom <= 1, got {mask!r}"
            )
        object.__setattr__(self, "mask", mask)

    def on(self, height: int, width: int, device: torch.device | None = None) -> Float[Tensor, "height width"]:
        """Return the mean of the mask over each cell of a grid; a cell that is all 0 or all 1 is exactly that.

        Args:
            height: rows of the grid.
            width: columns of the grid.
            device: where the result is made, and kept for the next call; None for that of the mask.
        """
        # The same few grids are asked for again and again, and copying to the device waits for it.
        key = height, width, device
        if key not in self._by_grid:
            cells = self._cells(height, width)
            self._by_grid[key] = cells if device is None else cells.to(device)
        return self._by_grid[key]

    def _cells(self, height: int, width: int) -> Float[Tensor, "height width"]:
        if isinstance(self.mask, Tensor):
            mask = self.mask.detach().float()
            return F.adaptive_avg_pool2d(mask[None, None], (height, width))[0, 0].clamp(0, 1)
        left, top, right, bottom = self.mask
        return _covered(top, bottom, height)[:, None] * _covered(left, right, width)


def _from_image(image: Any) -> Tensor:
    """Read the brightness of a PIL image."""
    grey = image.convert("L")
    # A copy of the bytes, because torch warns about a buffer that it must not write to.
    return torch.frombuffer(bytearray(grey.tobytes()), dtype=torch.uint8).reshape(grey.height, grey.width) / 255


def _check_tensor(mask: Tensor) -> None:
    """Raise KnobError unless a mask is (height, width) with numbers from 0 to 1."""
    if mask.dim() != 2 or mask.numel() == 0:
        raise KnobError(f"a mask is (height, width), got {tuple(mask.shape)}")
    if not bool(((mask >= 0) & (mask <= 1)).all()):
        raise KnobError(f"a mask holds numbers from 0 to 1, got {float(mask.min()):g} to {float(mask.max()):g}")


def _is_box(mask: object) -> bool:
    """Tell whether a mask is (left, top, right, bottom) in fractions of width and height."""
    if not isinstance(mask, Sequence) or len(mask) != 4:
        return False
    if not all(isinstance(edge, int | float) and not isinstance(edge, bool) for edge in mask):
        return False
    left, top, right, bottom = mask
    return 0 <= left < right <= 1 and 0 <= top < bottom <= 1


def _covered(start: float, stop: float, cells: int) -> Float[Tensor, " cells"]:
    """Return the share of each of these equal cells that lies between two fractions of the whole length."""
    first = torch.arange(cells, dtype=torch.float32)
    return (stop * cells - first).clamp(0, 1) - (start * cells - first).clamp(0, 1)
