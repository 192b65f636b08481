"""Normalized attention guidance."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from vsf.attention.partial import Strength, blend, in_pieces
from vsf.guidance.base import Guidance
from vsf.guidance.fusion import Fusion
from vsf.guidance.partials import Numbers, Partials
from vsf.knobs import Auto, choice, knob


@dataclass(frozen=True, slots=True)
class NormalizedAttentionGuidance(Guidance):
    """Extrapolate away from the negative, limit the norm, and blend with the unguided output.

    Chen et al., arXiv:2505.21179: Z̃ = s·Z⁺ − (s−1)·Z⁻, then Z̃·min(r, τ)/r with r = ‖Z̃‖/‖Z⁺‖ over the channels of all
    heads, then α·Z̃ + (1−α)·Z⁺. `scale` is s; the paper's φ is s − 1 (`convert_nag`). Negatives whose weights add up to
    less than 1 reduce s − 1 by that factor. A τ below 1 also limits Z⁺ itself.

    `PRESETS` holds the settings that Guo & Du, arXiv:2508.10931, compare with under the names NAG and NAG++:
    `vsf.method("nag", **vsf.NormalizedAttentionGuidance.PRESETS["nag++"])`.
    """

    name: ClassVar[str] = "nag"
    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {
            "nag": {"scale": 4.0, "tau": 2.5, "alpha": 0.125},
            "nag++": {"scale": 9.0, "tau": 5.0, "alpha": 0.5},
        }
    )

    scale: Strength | Auto = knob(4.0, low=1.0, high=20.0, help="Extrapolation away from the negative; 1 is none.")
    tau: Strength = knob(2.5, low=0.0, high=20.0, help="Largest factor by which a token's norm may grow.")
    alpha: Strength = knob(0.125, low=0.0, high=1.0, help="Share of the guided output in the blend.")
    norm: Literal["l1", "l2"] = choice("l1", choices=("l1", "l2"), help="The norm that tau limits.")

    def combine(self, partials: Partials) -> Float[Tensor, "batch heads rows channels"]:
        """Extrapolate, limit the norm, blend."""
        scale = partials.knob(self.scale)
        tau = partials.knob(self.tau)
        alpha = partials.knob(self.alpha)
        beyond = (scale - 1) * partials.fade(4)
        positive = partials.under_positive()
        negative = partials.under_negative()

        def formula(towards: Tensor, away: Tensor, beyond: Strength) -> Tensor:
            # A blend with a negative share goes from Z⁺ away from Z⁻: Z⁺ + (s−1)·(Z⁺ − Z⁻).
            guided = blend(towards, away, -beyond)
            return blend(towards, guided * self._restraint(guided, towards, tau), alpha)

        return in_pieces(formula, positive, negative, beyond)

    def fusion(self, numbers: Numbers) -> Fusion:
        """Name the fused kernel that computes the same as `combine`."""
        scale = 1 + (numbers.knob(self.scale, 1) - 1) * numbers.fade(1)
        tau = numbers.knob(self.tau, 1)
        alpha = numbers.knob(self.alpha, 1)
        return Fusion("nag", {"scale": scale, "tau": tau, "alpha": alpha, "norm": self.norm}, extrapolates=True)

    def _restraint(self, guided: Tensor, unguided: Tensor, tau: Strength) -> Tensor:
        """Return min(r, τ)/r per token; 1 where the guided output is zero."""
        order = 1 if self.norm == "l1" else 2
        before = torch.linalg.vector_norm(unguided, order, (1, 3), keepdim=True)
        after = torch.linalg.vector_norm(guided, order, (1, 3), keepdim=True)
        allowed = tau * before
        return (allowed / after.clamp(min=torch.finfo(after.dtype).tiny)).clamp(max=1)
