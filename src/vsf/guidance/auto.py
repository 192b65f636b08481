"""Strength without knobs: a scale that follows how much the image looks at the negative."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vsf.errors import KnobError
from vsf.guidance.base import Guidance
from vsf.guidance.parameters import Knob, knobs


@dataclass(frozen=True, slots=True)
class AutoScale:
    """Choose the `scale` of each step, one for every image, from the attention that the negative got in the last.

    What a method does to a picture grows with its scale, counted from the low end of the range where it does nothing,
    and with the mass μ, the share of the image's attention that is on the negative. Their product is held at what it
    is for the default scale α₀ at the usual mass μ₀, which makes the goal α* = low + (α₀ − low)·μ₀/μ. A step goes a
    part of the way, d = `damping`, on a logarithmic axis: (α − low) ← (α − low)¹⁻ᵈ·(α* − low)ᵈ, within the range. So at
    a mass that stays the same the distance shrinks to 1 − d with every step, and a long negative, on which more
    attention falls than on a short one, does not act harder.

    Everything is computed where the mass is; nothing waits for the device, and equal inputs give equal results.

    knob: the method's `scale`. usual: μ₀, about what `tiny` has with negatives of three to six tokens. damping: d.
    Raises KnobError for other values.
    """

    knob: Knob
    usual: float = 0.05
    damping: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.usual < 1 or not 0 < self.damping <= 1:
            raise KnobError(
                "usual is a share of the attention between 0 and 1, damping above 0 and at most 1, "
                f"got {self.usual!r} and {self.damping!r}"
            )

    def first(self, mass: Float[Tensor, " rows"]) -> Float[Tensor, "rows 1 1"]:
        """Return the default scale for every row, on the device and in the dtype of the mass."""
        return torch.full_like(mass, float(self.knob.default))[:, None, None]

    def next(self, scale: Float[Tensor, "rows 1 1"], mass: Float[Tensor, " rows"]) -> Float[Tensor, "rows 1 1"]:
        """Return the scale for the step after one that was made with `scale` and gave the negative this mass.

        Where no negative was seen (mass 0 or NaN) the scale stays. mass: mean over layers and image tokens, summed over
        the negatives of a row.
        """
        assert self.knob.low is not None
        assert self.knob.high is not None
        seen = mass[:, None, None]
        above = (scale - self.knob.low).clamp(min=torch.finfo(scale.dtype).tiny)
        goal = (float(self.knob.default) - self.knob.low) * self.usual / seen
        step = self.knob.low + above ** (1 - self.damping) * goal**self.damping
        return torch.where(seen > 0, step, scale).clamp(self.knob.low, self.knob.high)


def auto_scale(method: Guidance) -> AutoScale:
    """Return what chooses the scale of a method. Raises KnobError for one that has none."""
    for knob in knobs(type(method)):
        if knob.name == "scale":
            return AutoScale(knob)
    raise KnobError(f'scale="auto" needs a method with a scale, and "{method.name}" has none')
