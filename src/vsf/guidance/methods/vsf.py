"""Value sign flip."""

from dataclasses import dataclass
from math import inf
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from vsf.attention.partial import Strength, in_pieces, merge
from vsf.guidance.base import Guidance
from vsf.guidance.fusion import Fusion
from vsf.guidance.methods.orthogonal import orthogonal_part
from vsf.guidance.partials import Numbers, Partials
from vsf.knobs import Auto, choice, knob


@dataclass(frozen=True, slots=True)
class ValueSignFlip(Guidance):
    """Let the image see a second copy of the negative tokens whose values point the other way.

    Guo & Du, arXiv:2508.10931, value-flip equation: Z = softmax([Q Kpᵀ/√d, Q Knᵀ/√d − β]) · [Vp; −α Vn] with
    α = `scale`, β = `offset`. How strongly it acts on an image patch follows from how much the patch looks at the
    negative.

    `layout` "paper" is the published one. In "reference", the authors' own code, the positive prompt is followed by an
    unflipped copy of the negative, which the family appends, so that `offset=inf` does not switch that copy off.
    `special_tokens` takes effect where prompts are encoded.
    """

    name: ClassVar[str] = "vsf"

    scale: Strength | Auto = knob(1.0, low=0.0, high=10.0, help="How hard the negative prompt pushes back.")
    offset: Strength = knob(0.0, low=-5.0, high=inf, help="Logits taken off the negative tokens before the softmax.")
    layout: Literal["paper", "reference"] = choice(
        "paper",
        choices=("paper", "reference"),
        help="Which tokens are added: as in the paper, or as in its authors' code.",
    )
    orthogonal: bool = choice(
        False, help="Keep only the part of the change that is orthogonal to the unguided attention output."
    )
    special_tokens: Literal["keep", "strip"] = choice(
        "keep", choices=("keep", "strip"), help="Whether the begin and end tokens of the negative prompt take part."
    )

    @property
    def token_layout(self) -> Literal["paper", "reference"]:
        """The tokens that are added to the sequence: `layout`."""
        return self.layout

    @property
    def strips_special_tokens(self) -> bool:
        """True if the begin and end tokens of the negative prompt are left out."""
        return self.special_tokens == "strip"

    def combine(self, partials: Partials) -> Float[Tensor, "batch heads rows channels"]:
        """Merge the model's own attention with the sign-flipped negatives by their log-sum-exp."""
        scale = partials.knob(self.scale, 3)
        offset = partials.knob(self.offset, 3)
        merged = merge(*partials.host, partials.negative.scaled(-scale).shifted(-offset))
        return in_pieces(_without_growth, partials.unguided, merged) if self.orthogonal else merged

    def fusion(self, numbers: Numbers) -> Fusion:
        """Name the fused kernel that computes the same as `combine`."""
        scale = numbers.knob(self.scale, 1)
        offset = numbers.knob(self.offset, 1)
        return Fusion("flip", {"scale": scale, "offset": offset, "orthogonal": self.orthogonal})


def _without_growth(unguided: Tensor, merged: Tensor) -> Tensor:
    """Return Z⁺ + Δ⊥ with Δ = merged − Z⁺: the change may turn Z⁺, not stretch or shrink it."""
    return unguided + orthogonal_part(merged - unguided, unguided)
