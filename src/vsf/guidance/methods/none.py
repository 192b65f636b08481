"""No guidance: the model as it is."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from vsf.guidance.base import Guidance
from vsf.guidance.partials import Partials


@dataclass(frozen=True, slots=True)
class Unguided(Guidance):
    """Leave the image rows alone: the baseline that every method is compared with."""

    name: ClassVar[str] = "none"

    def combine(self, partials: Partials) -> Float[Tensor, "batch heads rows channels"]:
        """Return Z⁺."""
        return partials.unguided
