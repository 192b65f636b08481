"""Token layouts: which tokens of a sequence are image, positive or negative prompt, shared by all, or kept keys."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from vsf.errors import LayoutError

Kind = Literal["image", "positive", "negative", "shared", "kept"]
Part = Kind | int
"""A selection of tokens: every span of a kind, or by number one of the negative prompts."""

Places = slice | Tensor
"""An index of some tokens of a sequence: a slice of neighbours, which takes a view, or a tensor of positions."""

HOST: tuple[Part, ...] = ("image", "positive", "shared", "kept")
"""The tokens that the unguided model has too."""

COMMON: tuple[Part, ...] = ("image", "shared", "kept")
"""Those of them that do not belong to a prompt: every row sees them, whatever prompt it is under."""


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

    Negative spans may stand anywhere; the i-th of them is negative prompt i. The other kinds may be split over several
    spans. Shared tokens (registers, batch padding) are seen by every row and see all but the negatives. Kept tokens are
    seen by every row and have no rows themselves: their keys and values come from another call, or their rows attend in
    a call of their own.
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

    def of_rows(self) -> "TokenLayout":
        """Return the layout of the queries in joint attention, where all but kept tokens have a row."""
        return TokenLayout(tuple(span for span in self.spans if span.kind != "kept"))

    def places(self, parts: Collection[Part], device: torch.device) -> Places:
        """Return where the tokens of these parts stand, in sequence order."""
        runs = self._runs(parts)
        if not runs:
            return slice(0, 0)
        if len(runs) == 1:
            start, length = runs[0]
            return slice(start, start + length)
        return torch.cat([torch.arange(start, start + length, device=device) for start, length in runs])

    def take(self, tensor: Tensor, dim: int, parts: Collection[Part]) -> Tensor:
        """Keep the tokens of these parts along `dim`, in sequence order.

        A view where the kept tokens are neighbours, a copy otherwise.
        """
        pieces = [tensor.narrow(dim, start, length) for start, length in self._runs(parts)]
        if not pieces:
            return tensor.narrow(dim, 0, 0)
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim)

    def _runs(self, parts: Collection[Part]) -> list[tuple[int, int]]:
        """Return (start, length) of every run of neighbouring tokens that belong to these parts."""
        runs: list[tuple[int, int]] = []
        start = 0
        negatives = 0
        for span in self.spans:
            is_picked = span.kind in parts
            if span.kind == "negative":
                is_picked = is_picked or negatives in parts
                negatives += 1
            if is_picked and span.length:
                # A run that goes on is extended: one run can be taken as a view, several have to be copied.
                if runs and sum(runs[-1]) == start:
                    runs[-1] = (runs[-1][0], runs[-1][1] + span.length)
                else:
                    runs.append((start, span.length))
            start += span.length
        return runs
