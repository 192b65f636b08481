"""How the image tokens of a layer lie in the picture."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from vsf.errors import LayoutError


@dataclass(frozen=True, slots=True)
class Grid:
    """Image tokens in frames of rows: frame by frame, row by row; a picture is one frame."""

    height: int
    width: int
    frames: int = 1

    @classmethod
    def of_positions(cls, positions: Float[Tensor, "tokens 3"]) -> "Grid":
        """Return the grid of tokens whose positions are (picture, row, column), from 0.

        Reference images stand behind the picture and have another number; they do not count.
        """
        own = positions[positions[:, 0] == positions[0, 0]]
        return cls(*(int(size) + 1 for size in own[:, 1:].amax(0)))

    @classmethod
    def of_coordinates(cls, coordinates: Float[Tensor, "3 tokens"]) -> "Grid":
        """Return the grid of tokens at these times, rows and columns, in units of any kind.

        Key frames and reference images stand behind the clip: with them time does not go on.
        """
        time, row, column = coordinates
        width = _rising(column)
        area = _rising(row * (column.max() - column.min() + 1) + column)
        return cls(area // width, width, _rising(time[::area]))

    @property
    def tokens(self) -> int:
        """How many tokens the grid has."""
        return self.frames * self.height * self.width

    def fit(self, tokens: int) -> "Grid":
        """Return the grid of a layer with this many image tokens.

        A layer with more has them behind the grid: those of reference images, which are no part of the picture. One
        with fewer lies deeper in a U-Net, whose rows and columns were halved, rounding up. Raises LayoutError when no
        halving leads there.
        """
        grid = self
        while grid.tokens > tokens and max(grid.height, grid.width) > 1:
            grid = Grid(-(-grid.height // 2), -(-grid.width // 2), grid.frames)
        if grid.tokens > tokens or (grid != self and grid.tokens != tokens):
            raise LayoutError(f"{tokens} image tokens do not lie on a grid of {self}, however often it is halved")
        return grid

    def cut(self, tokens: Float[Tensor, "... tokens"]) -> Float[Tensor, "... frames height width"]:
        """Lay values of tokens out on the grid; those behind it are left out."""
        return tokens[..., : self.tokens].unflatten(-1, (self.frames, self.height, self.width))


def _rising(numbers: Float[Tensor, " _"]) -> int:
    """Count how many numbers at the beginning grow from one to the next."""
    return 1 + int((numbers.diff() > 0).long().cumprod(0).sum())
