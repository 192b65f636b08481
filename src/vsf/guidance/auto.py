"""Automatic scale: follow how much the image looks at the negative."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vsf.errors import KnobError
from vsf.guidance.base import Guidance
from vsf.knobs import Knob, knobs


@dataclass(frozen=True, slots=True)
class AutoScale:
    """Choose the `scale` of each step, one for every image, from the attention that the negative got in the last step.

    The effect of a method on a picture grows with its scale, counted from the low end of the range where it has none,
    and with the mass μ, the share of the image's attention that is on the negative. Their product is held at its
    value for the default scale α₀ at the usual mass μ₀, which makes the goal α* = low + (α₀ − low)·μ₀/μ. A step goes a
    part of the way, d = `damping`, on a logarithmic axis: (α − low) ← (α − low)¹⁻ᵈ·(α* − low)ᵈ, within the range. So at
    a constant mass the distance shrinks to 1 − d with every step, and a long negative, which gets more attention than
    a short one, does not act harder.

    Everything is computed where the mass is; nothing waits for the device, and equal inputs give equal results.

    Args:
        knob: the method's `scale`.
        usual: μ₀, about the mass on `tiny` with negatives of three to six tokens.
        damping: d.

    Raises:
        KnobError: `usual` or `damping` is out of range.
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
        """Return the scale of the next step. Where no negative was seen (mass 0 or NaN) the scale stays.

        Args:
            scale: that of the step before.
            mass: that of the negatives in it, mean over layers and image tokens, summed over the negatives of a row.
        """
        assert self.knob.low is not None
        assert self.knob.high is not None
        mass_of_row = mass[:, None, None]
        # A scale at the low end would stay there forever: its distance is 0, and so is any power of it.
        above = (scale - self.knob.low).clamp(min=torch.finfo(scale.dtype).tiny)
        goal = (float(self.knob.default) - self.knob.low) * self.usual / mass_of_row
        step = self.knob.low + above ** (1 - self.damping) * goal**self.damping
        return torch.where(mass_of_row > 0, step, scale).clamp(self.knob.low, self.knob.high)


def auto_scale(method: Guidance) -> AutoScale:
    """Return the rule that chooses a method's scale. Raises KnobError for a method without one."""
    for knob in knobs(type(method)):
        if knob.name == "scale":
            return AutoScale(knob)
    raise KnobError(f'scale="auto" needs a method with a scale, and "{method.name}" has none')
