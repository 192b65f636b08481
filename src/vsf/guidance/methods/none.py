"""No guidance."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from vsf.attention.layout import Kind
from vsf.guidance.base import Guidance
from vsf.guidance.partials import Partials


@dataclass(frozen=True, slots=True)
class Unguided(Guidance):
    """Leave attention unchanged: the baseline that every method is compared with."""

    name: ClassVar[str] = "none"
    guided_rows: ClassVar[Collection[Kind]] = ()

    def combine(self, partials: Partials) -> Float[Tensor, "batch heads rows channels"]:
        """Return Z⁺."""
        return partials.unguided
