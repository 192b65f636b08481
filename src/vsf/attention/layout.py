"""What each token of a sequence is: image, positive prompt, negative prompt, or shared by all."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from vsf.errors import LayoutError

Kind = Literal["image", "positive", "negative", "shared"]
Part = Kind | int
"""What to pick out of a layout: every span of a kind, or by number one of the negative prompts."""
Places = slice | Tensor
"""Where some tokens stand in a sequence, to index its axis with: a slice (a view) of neighbours, or their positions."""
HOST: tuple[Part, ...] = ("image", "positive", "shared")
"""Everything that the unguided model has too."""


@dataclass(frozen=True, slots=True)
class Span:
    """A run of neighbouring tokens of one kind. Raises LayoutError for an unknown kind or a negative length."""

    kind: Kind
    length: int

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise LayoutError(f'unknown span kind "{self.kind}"; use one of {", ".join(get_args(Kind))}')
        if self.length < 0:
            raise LayoutError(f"a span of {self.length} tokens; lengths are 0 or more")


@dataclass(frozen=True, slots=True)
class TokenLayout:
    """The spans of one token sequence, in sequence order.

    Several negative spans may stand anywhere; the i-th of them is negative prompt i. The other kinds may be split over
    several spans. Shared tokens (registers, batch padding) are seen by every row and see all but the negatives.
    """

    spans: tuple[Span, ...]

    @property
    def tokens(self) -> int:
        """Length of the whole sequence."""
        return sum(span.length for span in self.spans)

    @property
    def negative_lengths(self) -> tuple[int, ...]:
        """Length of each negative prompt, in order."""
        return tuple(span.length for span in self.spans if span.kind == "negative")

    def count(self, parts: Collection[Part]) -> int:
        """Return how many tokens these parts have."""
        return sum(length for _, length in self._runs(parts))

    def without_negatives(self) -> "TokenLayout":
        """Return the layout that the unguided model has."""
        return TokenLayout(tuple(span for span in self.spans if span.kind != "negative"))

    def places(self, parts: Collection[Part], device: torch.device) -> Places:
        """Return where the tokens of these parts stand, in sequence order."""
        runs = self._runs(parts)
        if len(runs) < 2:
            start, length = runs[0] if runs else (0, 0)
            return slice(start, start + length)
        return torch.cat([torch.arange(start, start + length, device=device) for start, length in runs])

    def take(self, tensor: Tensor, dim: int, parts: Collection[Part]) -> Tensor:
        """Keep the tokens of these parts along `dim`, in sequence order.

        A view where the kept tokens are neighbours, a copy otherwise.
        """
        pieces = [tensor.narrow(dim, start, length) for start, length in self._runs(parts)]
        if len(pieces) == 1:
            return pieces[0]
        return torch.cat(pieces, dim) if pieces else tensor.narrow(dim, 0, 0)

    def _runs(self, parts: Collection[Part]) -> list[tuple[int, int]]:
        """Return (start, length) of every run of neighbouring tokens that belong to these parts."""
        runs: list[tuple[int, int]] = []
        start = negatives = 0
        for span in self.spans:
            kept = span.kind in parts
            if span.kind == "negative":
                kept, negatives = kept or negatives in parts, negatives + 1
            if kept and span.length:
                if runs and sum(runs[-1]) == start:
                    runs[-1] = (runs[-1][0], runs[-1][1] + span.length)
                else:
                    runs.append((start, span.length))
            start += span.length
        return runs
