"""The host-neutral half of one guided model call."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vsf.families.base import Role
from vsf.grid import Grid
from vsf.guidance import Control, Guidance, HostCall, Observation, guided_attention
from vsf.region import Region
from vsf.spans import Span, TokenLayout

__all__ = ["GuidedCall", "Role"]


class GuidedCall:
    """What a method does to the attention layers during one model call."""

    def __init__(
        self,
        method: Guidance,
        text: Sequence[tuple[Span, ...]],
        *,
        valid: Tensor | None = None,
        weights: Tensor | None = None,
        unguided: tuple[int, ...] | None = None,
        strength: float | Tensor = 1.0,
        region: Region | None = None,
        grid: Grid | None = None,
        inactive: Collection[str] = (),
        record: Callable[[str, Observation], None] | None = None,
    ) -> None:
        """Take what is known before the layers run: the spans of the text once for all rows, who is guided and how."""
        self.method, (self.text,) = method, text
        self.valid, self.weights, self.unguided = valid, weights, unguided
        self.strength, self.region, self.grid = strength, region, grid
        self.inactive, self.record = frozenset(inactive), record

    def sees_text(self, role: Role, queries: int, keys: int) -> bool:
        """Tell whether an attention call of these sizes is one that sees the text."""
        text = sum(span.length for span in self.text)
        if role.kind == "cross":
            return keys == text
        if any(span.kind == "image" for span in self.text):
            return queries == keys == text
        return queries == keys > text

    def attend(
        self,
        role: Role,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        bias: Tensor | None = None,
        scale: float | None = None,
        name: str | None = None,
        host: Any = None,
    ) -> Tensor:
        """Let the method act on one attention call."""
        del host
        layout = role.layout(self.text, key.shape[2])
        strength = 0.0 if name in self.inactive else self._strength_on(query, layout)
        control = Control(self.weights, strength, unguided=self.unguided)
        if self.record is not None and name is not None and not control.is_off:
            control = replace(control, watch=partial(self.record, name))
        call = HostCall(query, key, value, "cross" if role.kind == "cross" else "joint", bias, scale)
        return guided_attention(self.method, call, layout, negative_valid=self.valid, control=control)

    def _strength_on(self, query: Tensor, layout: TokenLayout) -> float | Tensor:
        """Return the strength in a layer: a number, or with a mask one for each image token."""
        if self.region is None or self.grid is None:
            return self.strength
        tokens = layout.count(["image"]) or query.shape[2]
        grid = self.grid.fit(tokens)
        spread = self.strength * self.region.on(grid.height, grid.width).flatten().repeat(grid.frames)
        return torch.cat([spread, spread.new_zeros(tokens - grid.tokens)]).to(query.device)
