"""Centred value sign flip."""

from dataclasses import dataclass
from math import inf
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from vsf.attention.partial import Strength, towards_merged
from vsf.guidance.base import Guidance
from vsf.guidance.fusion import Fusion
from vsf.guidance.partials import Numbers, Partials
from vsf.knobs import Auto, choice, knob


@dataclass(frozen=True, slots=True)
class CentredValueSignFlip(Guidance):
    """Flip the negative tokens' values about the model's own output instead of about zero.

    Z = Z⁺ + α·w·(Z⁺ − Z_N) with α = `scale`, Z_N the attention output over the negative tokens alone, and w their share
    of the softmax over all tokens, β = `offset` taken off their logits. As in value sign flip (Guo & Du,
    arXiv:2508.10931) an image patch is changed as much as it looks at the negative, but the negative takes no attention
    away from the picture, and nothing changes at α = 0.

    `special_tokens` takes effect where prompts are encoded.
    """

    name: ClassVar[str] = "vsf-centred"

    scale: Strength | Auto = knob(4.0, low=0.0, high=20.0, help="How hard the negative prompt pushes back.")
    offset: Strength = knob(0.0, low=-5.0, high=inf, help="Logits taken off the negative tokens before the softmax.")
    special_tokens: Literal["keep", "strip"] = choice(
        "keep", choices=("keep", "strip"), help="Whether the begin and end tokens of the negative prompt take part."
    )

    @property
    def strips_special_tokens(self) -> bool:
        """True if the begin and end tokens of the negative prompt are left out."""
        return self.special_tokens == "strip"

    def combine(self, partials: Partials) -> Float[Tensor, "batch heads rows channels"]:
        """Move away from the output that the rows would have with the negatives, unflipped, among their keys."""
        scale = partials.knob(self.scale, 4)
        offset = partials.knob(self.offset, 3)
        # With them it would be (1 − w)·Z⁺ + w·Z_N, so that is a step of −α from Z⁺ towards it.
        return towards_merged(partials.unguided, partials.host, partials.negative.shifted(-offset), -scale)

    def fusion(self, numbers: Numbers) -> Fusion:
        """Name the fused kernel that computes the same as `combine`."""
        scale = numbers.knob(self.scale, 1)
        offset = numbers.knob(self.offset, 1)
        return Fusion("flip", {"scale": scale, "offset": offset, "centred": True})
