"""Normalized attention guidance."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from vsf.attention import Strength
from vsf.guidance.knobs import Auto, Knobs, choice, knob
from vsf.guidance.partials import Partials


@dataclass(frozen=True, slots=True)
class NormalizedAttentionGuidance(Knobs):
    """Extrapolate away from the negative, hold the norm back, blend with the unguided output.

    Chen et al., arXiv:2505.21179: Z̃ = s·Z⁺ − (s−1)·Z⁻, then Z̃·min(r, τ)/r with r = ‖Z̃‖/‖Z⁺‖ over the channels of all
    heads, then α·Z̃ + (1−α)·Z⁺. `scale` is s; the paper's φ is s − 1 (`convert_nag`).

    `PRESETS` holds the knobs that Guo & Du, arXiv:2508.10931, compared with under the names NAG and NAG++:
    `vsf.method("nag", **vsf.NormalizedAttentionGuidance.PRESETS["nag++"])`.
    """

    name: ClassVar[str] = "nag"
    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {
            "nag": {"scale": 4.0, "tau": 2.5, "alpha": 0.125},
            "nag++": {"scale": 9.0, "tau": 5.0, "alpha": 0.5},
        }
    )

    scale: Strength | Auto = knob(4.0, low=1.0, high=20.0, help="How far to go from the negative; 1 is not at all.")
    tau: Strength = knob(2.5, low=0.0, high=20.0, help="How many times its norm a token may grow to.")
    alpha: Strength = knob(0.125, low=0.0, high=1.0, help="Share of the guided output in the blend.")
    norm: Literal["l1", "l2"] = choice("l1", choices=("l1", "l2"), help="Which norm is held back.")

    def combine(self, partials: Partials) -> Float[Tensor, "batch heads rows channels"]:
        """Extrapolate, restrain, blend."""
        positive, negative = partials.under_positive(), partials.under_negative()
        wide = torch.promote_types(positive.dtype, torch.float32)
        towards, away = positive.to(wide), negative.to(wide)
        scale, tau, alpha = (partials.knob(knob) for knob in (self.scale, self.tau, self.alpha))
        guided = scale * towards - (scale - 1) * away
        guided = guided * self._restraint(guided, towards, tau)
        return (alpha * guided + (1 - alpha) * towards).to(positive.dtype)

    def _restraint(self, guided: Tensor, unguided: Tensor, tau: Strength) -> Tensor:
        """Return min(r, τ)/r per token, 1 where there is nothing to restrain."""
        order = 1 if self.norm == "l1" else 2
        before, after = (torch.linalg.vector_norm(x, order, (1, 3), keepdim=True) for x in (unguided, guided))
        allowed = tau * before
        grown = after > allowed
        return torch.where(grown, allowed / after.masked_fill(~grown, 1.0), 1.0)
