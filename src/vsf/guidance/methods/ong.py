"""Orthogonal negative guidance."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from vsf.attention.partial import Strength, in_pieces
from vsf.guidance.base import Guidance
from vsf.guidance.fusion import Fusion
from vsf.guidance.methods.orthogonal import orthogonal_part
from vsf.guidance.partials import Numbers, Partials
from vsf.knobs import Auto, knob


@dataclass(frozen=True, slots=True)
class OrthogonalNegativeGuidance(Guidance):
    """Subtract only the part of the negative's output that is orthogonal to the positive's.

    arXiv:2605.29390, written from its abstract: Z⁺ − s·(Z⁻ − (⟨Z⁻,Z⁺⟩/⟨Z⁺,Z⁺⟩)·Z⁺), per token over the channels of all
    heads. The paper's own settings are not known; the default is that of NASA. Negatives whose weights add up
    to less than 1 reduce s by that factor.
    """

    name: ClassVar[str] = "ong"

    scale: Strength | Auto = knob(0.25, low=0.0, high=10.0, help="How much of the orthogonal part is subtracted.")

    def combine(self, partials: Partials) -> Float[Tensor, "batch heads rows channels"]:
        """Return Z⁺ − s·Z⁻⊥."""
        scale = partials.knob(self.scale) * partials.fade(4)
        positive = partials.under_positive()
        negative = partials.under_negative()

        def formula(towards: Tensor, away: Tensor, scale: Strength) -> Tensor:
            return towards - scale * orthogonal_part(away, towards)

        return in_pieces(formula, positive, negative, scale)

    def fusion(self, numbers: Numbers) -> Fusion:
        """Name the fused kernel that computes the same as `combine`."""
        scale = numbers.knob(self.scale, 1) * numbers.fade(1)
        return Fusion("ong", {"scale": scale}, extrapolates=True)
