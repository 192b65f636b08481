"""The grid of image tokens: how the tokens of a layer lie in the picture."""

from dataclasses import dataclass, field, replace

from jaxtyping import Bool, Float
from torch import Tensor

from vsf.controls.clock import Clock
from vsf.errors import LayoutError


@dataclass(frozen=True, slots=True)
class Grid:
    """A grid of image tokens, which follow frame by frame and row by row; a picture is one frame.

    Attributes:
        height: rows.
        width: columns.
        frames: how often rows and columns are repeated.
        before: how many image tokens stand before the grid: key frames or sound, no part of the picture.
        sound: how many of those, the last of them, are sound.
        clock: when the frames are shown; None where that is not known or not needed.
    """

    height: int
    width: int
    frames: int = 1
    before: int = 0
    sound: int = 0
    clock: Clock | None = field(default=None, kw_only=True)

    @classmethod
    def of_positions(cls, positions: Float[Tensor, "tokens 3"]) -> "Grid":
        """Return the grid of tokens at these positions: (image, row, column), from 0.

        Reference images follow the picture and have another image number; they do not count.
        """
        of_picture = positions[positions[:, 0] == positions[0, 0]]
        row, column = of_picture[:, 1:].amax(0).tolist()
        return cls(int(row) + 1, int(column) + 1)

    @classmethod
    def of_coordinates(cls, coordinates: Float[Tensor, "3 tokens"]) -> "Grid":
        """Return the grid of tokens at these times, rows and columns, in any units.

        Key frames and reference images follow the clip: with them, time does not go on.
        """
        time, row, column = coordinates
        next_row = row.diff() > 0
        next_column = column.diff() > 0
        width = _run(next_column)
        area = _run(next_row | (row.diff() == 0) & next_column)  # a new frame goes back to the first row, or column
        return cls(area // width, width, _run(time[::area].diff() > 0))

    @property
    def tokens(self) -> int:
        """The number of tokens on the grid."""
        return self.frames * self.height * self.width

    def fit(self, tokens: int) -> "Grid":
        """Return the grid of a layer with this many image tokens.

        Those `before` are counted. Further tokens follow the grid: those of reference images, which are no part of the
        picture. Fewer tokens are those of a layer deeper in a U-Net, where rows and columns were halved, rounding up.

        Raises:
            LayoutError: no halving leads to this number of tokens.
        """
        grid = self
        available = tokens - self.before
        while grid.tokens > available and max(grid.height, grid.width) > 1:
            grid = replace(grid, height=-(-grid.height // 2), width=-(-grid.width // 2))
        if grid.tokens > available or (grid != self and grid.tokens != available):
            raise LayoutError(f"{tokens} image tokens do not lie on a grid of {self}, however often it is halved")
        return grid

    def cut(self, tokens: Float[Tensor, "... tokens"]) -> Float[Tensor, "... frames height width"]:
        """Arrange values of tokens on the grid; those before and behind it are dropped."""
        on_grid = tokens[..., self.before : self.before + self.tokens]
        return on_grid.unflatten(-1, (self.frames, self.height, self.width))


def _run(goes_on: Bool[Tensor, " _"]) -> int:
    """Count the tokens at the beginning up to the first that does not go on from the one before."""
    return 1 + int(goes_on.long().cumprod(0).sum())
