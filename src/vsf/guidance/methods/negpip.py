"""Negative prompt in prompt."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from vsf.attention.layout import Kind
from vsf.attention.partial import Strength, merge
from vsf.guidance.base import Guidance
from vsf.guidance.fusion import Fusion
from vsf.guidance.partials import Numbers, Partials
from vsf.knobs import Auto, knob


@dataclass(frozen=True, slots=True)
class NegativeInPrompt(Guidance):
    """Append the negative to the prompt with its values sign-flipped, for every row alike.

    NegPiP (hako-mikan, 2023), prior art of Guo & Du, arXiv:2508.10931, and their ablation without mask and duplicate:
    softmax(Q [Kp; Kn]ᵀ/√d) · [Vp; −α Vn] with α = `scale`. In joint attention the text rows, the negative's own among
    them, see the same keys and flipped values as the image rows; a weight counts in all of them. In cross-attention it
    is the value sign flip without an offset.
    """

    name: ClassVar[str] = "negpip"
    guided_rows: ClassVar[Collection[Kind]] = ("image", "positive", "shared", "negative")

    scale: Strength | Auto = knob(1.0, low=0.0, high=10.0, help="How hard the negative words push back.")

    def combine(self, partials: Partials) -> Float[Tensor, "batch heads rows channels"]:
        """Merge the attention of the rows without the negatives with the sign-flipped negatives."""
        scale = partials.knob(self.scale, 3)
        return merge(*partials.host, partials.negative.scaled(-scale))

    def fusion(self, numbers: Numbers) -> Fusion:
        """Name the fused kernel that computes the same as `combine`."""
        return Fusion("flip", {"scale": numbers.knob(self.scale, 1)})
