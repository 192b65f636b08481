"""Classifier-free guidance."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from vsf.attention.partial import Strength, per_row
from vsf.errors import KnobError
from vsf.guidance.base import Guidance
from vsf.guidance.partials import Partials
from vsf.knobs import Auto, knob


@dataclass(frozen=True, slots=True)
class ClassifierFreeGuidance(Guidance):
    """Call the model a second time with the negative as its prompt, and extrapolate away from that output.

    Ho & Salimans, arXiv:2207.12598, with a negative prompt: v = v⁻ + w·(v⁺ − v⁻), w = `scale`. The one method that acts
    on the model's output: attention is unchanged, and each step takes twice the time. Made for models that were not
    distilled; here it is the baseline on pipelines that have no such guidance of their own.
    """

    name: ClassVar[str] = "cfg"
    model_calls: ClassVar[int] = 2

    scale: Strength | Auto = knob(4.0, low=1.0, high=30.0, help="Extrapolation away from the negative; 1 is none.")

    def combine(self, partials: Partials) -> Float[Tensor, "batch heads rows channels"]:
        """Return Z⁺."""
        return partials.unguided

    def mix(
        self,
        conditional: Float[Tensor, "batch ..."],
        unconditional: Float[Tensor, "batch ..."],
        strength: float | Float[Tensor, "..."] = 1.0,
    ) -> Float[Tensor, "batch ..."]:
        """Return v⁺ + m·(v − v⁺).

        Args:
            conditional: v⁺, the model's output under the positive prompt.
            unconditional: v⁻, its output under the negative prompt.
            strength: m, a number or a tensor that broadcasts to the outputs; 0 leaves v⁺ to the last bit.

        Raises:
            KnobError: the scale is "auto".
        """
        wide_dtype = torch.promote_types(conditional.dtype, torch.float32)
        towards = conditional.to(wide_dtype)
        away = unconditional.to(wide_dtype)
        if isinstance(self.scale, str):
            raise KnobError('scale="auto" follows what attention does, which this method leaves alone; give a number')
        scale = per_row(self.scale, towards.dim())
        return (towards + strength * (scale - 1) * (towards - away)).to(conditional.dtype)
