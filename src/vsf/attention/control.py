"""Settings of one attention call besides the method: weights, strength, and an observer of the effect."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from vsf.attention.layout import Places


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """The effect of the guidance in one attention call, for some rows of the batch.

    Attributes:
        rows: which batch rows.
        change: ‖out − Z⁺‖/‖Z⁺‖ of the image rows.
        mass: share of the attention that each negative has among all keys of an image row (before a method's own
            offset), mean over heads.
    """

    rows: tuple[int, ...]
    change: Float[Tensor, " rows"]
    mass: Float[Tensor, "rows negatives queries"]


@dataclass(frozen=True, slots=True, eq=False)
class Control:
    """Weights of negative and positive tokens, strength of the method, and an observer; by default all 1, and none.

    Attributes:
        weights: of each negative. Weight w adds ln w to the logits that guided rows have for that negative's keys, so
            that two equal halves equal one whole; 0 is absent. Rows that are not guided, as a negative's own stream
            mostly is, are not affected. With one for each image row as well, text rows, where a method guides them,
            follow the least.
        strength: m in out = Z⁺ + m·(combined − Z⁺), a number, or (queries,) or (batch, queries) over the image rows. 0
            leaves Z⁺ and 1 the method's own result, both to the last bit. Text rows, where a method guides them, follow
            the least of a row's strengths.
        emphasis: for each batch row the weights, 0 or more, of its positive tokens, None for a row where all weigh 1. A
            weight w adds ln w to the logits that image rows have for that key, and so to the Z⁺ that every method
            starts from, with or without a negative. Text rows are not affected.
        unguided: batch rows that have no negative, which get the model's own attention. Giving it, () for none, is a
            promise that every other row has a real negative token of a weight above 0 and that a strength without axes
            is not 0. None: not known; then methods that need pieces of Z⁺ compute it a second time wherever a row may
            turn out to bypass them.
        watch: called with each observation, one for every layout of the batch; not where attention comes without its
            log-sum-exp (gradients wanted; devices without a fused kernel), which would have to be computed for it.
    """

    weights: Float[Tensor, "batch negatives"] | Float[Tensor, "batch negatives queries"] | None = None
    strength: float | Float[Tensor, "..."] = 1.0
    emphasis: Sequence[Float[Tensor, " positive_tokens"] | None] | Float[Tensor, "batch positive_tokens"] | None = None
    unguided: tuple[int, ...] | None = None
    watch: Callable[[Observation], None] | None = None

    @property
    def is_off(self) -> bool:
        """True if the strength is the number 0, so that nothing acts in this call."""
        return not isinstance(self.strength, Tensor) and self.strength == 0

    def rows(self, index: Sequence[int]) -> "Control":
        """Keep some rows of the batch, of which all or none are unguided."""
        weights = self.weights
        strength = self.strength
        if isinstance(strength, Tensor) and strength.dim() == 2 and strength.shape[0] > 1:
            strength = strength[batch_places(index, strength.device)]
        # The first row speaks for all of them; strength 0 is how a whole group is left out.
        if self.unguided is not None and index[0] in self.unguided:
            strength = 0.0
        if weights is not None:
            weights = weights[batch_places(index, weights.device)]
        return replace(self, weights=weights, strength=strength)


def batch_places(index: Sequence[int], device: torch.device) -> Places:
    """Return an index of some batch rows: a slice where they are neighbours, else a tensor.

    A list as an index would be copied to the device, which has to wait for that; `arange` is made there.
    """
    if list(index) == list(range(index[0], index[-1] + 1)):
        return slice(index[0], index[-1] + 1)
    return torch.cat([torch.arange(row, row + 1, device=device) for row in index])
