"""Negative-away steer attention."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from vsf.attention.partial import Strength, in_pieces
from vsf.guidance.base import Guidance
from vsf.guidance.fusion import Fusion
from vsf.guidance.partials import Numbers, Partials
from vsf.knobs import Auto, knob


@dataclass(frozen=True, slots=True)
class NegativeAwaySteerAttention(Guidance):
    """Subtract the attention output under the negative prompt.

    Nguyen et al. (SNOOPI), arXiv:2412.02687: Z⁺ − s·Z⁻, with neither norm nor blend; s = 0 leaves Z⁺. Negatives whose
    weights add up to less than 1 reduce s by that factor.
    """

    name: ClassVar[str] = "nasa"

    scale: Strength | Auto = knob(0.25, low=0.0, high=10.0, help="How much of the negative's output is subtracted.")

    def combine(self, partials: Partials) -> Float[Tensor, "batch heads rows channels"]:
        """Return Z⁺ − s·Z⁻."""
        scale = partials.knob(self.scale) * partials.fade(4)
        positive = partials.under_positive()
        negative = partials.under_negative()
        return in_pieces(lambda towards, away, scale: towards - scale * away, positive, negative, scale)

    def fusion(self, numbers: Numbers) -> Fusion:
        """Name the fused kernel that computes the same as `combine`."""
        scale = numbers.knob(self.scale, 1) * numbers.fade(1)
        return Fusion("nasa", {"scale": scale}, extrapolates=True)
