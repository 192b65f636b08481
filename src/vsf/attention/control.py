"""How strongly the negatives act in one attention call, and who watches what they do."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from vsf.attention.layout import Places


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """What the guidance did in one attention call, for some rows of the batch.

    rows: which rows. change: ‖out − Z⁺‖/‖Z⁺‖ of the image rows. mass: share of the attention that each negative has
    among all keys of an image row (before a method's own offset), mean over heads.
    """

    rows: tuple[int, ...]
    change: Float[Tensor, " rows"]
    mass: Float[Tensor, "rows negatives queries"]


@dataclass(frozen=True, slots=True, eq=False)
class Control:
    """Weights of negative and positive, strength of the method, and an observer; by default all 1, and none.

    weights: (batch, negatives). Weight w adds ln w to the logits that guided rows have for that negative's keys, so
        that two equal halves equal one whole; 0 is absent. Rows that are not guided, as a negative's own stream mostly
        is, do not notice.
    strength: m in out = Z⁺ + m·(combined − Z⁺), a number, or (queries,) or (batch, queries) over the image rows. 0
        leaves Z⁺ and 1 the method's own result, both to the last bit. Text rows, where a method guides them, follow
        the least of a row's strengths.
    emphasis: for each batch row the weights, 0 or more, of its positive tokens, None for a row where all weigh 1: a
        weight adds ln w to the logits that image rows have for that key, and so to the Z⁺ that every method starts
        from, with or without a negative. Text rows do not notice.
    unguided: batch rows that have no negative, which get the model's own attention. Giving it, () for none, is a
        promise that every other row has a real negative token of a weight above 0 and that a strength without axes is
        not 0. None: not known; then methods that need pieces of Z⁺ compute it a second time wherever a row may turn
        out to bypass them.
    watch: called with what was observed, once for every layout of the batch; not where attention comes without its
        log-sum-exp (gradients wanted; devices without a fused kernel), which would have to be computed for it.
    """

    weights: Float[Tensor, "batch negatives"] | None = None
    strength: float | Float[Tensor, "..."] = 1.0
    emphasis: Sequence[Float[Tensor, " positive_tokens"] | None] | Float[Tensor, "batch positive_tokens"] | None = None
    unguided: tuple[int, ...] | None = None
    watch: Callable[[Observation], None] | None = None

    @property
    def is_off(self) -> bool:
        """Whether nothing is to act in this call."""
        return not isinstance(self.strength, Tensor) and self.strength == 0

    @property
    def blends(self) -> bool:
        """Whether the method's result is to be mixed with the unguided one."""
        return isinstance(self.strength, Tensor) or self.strength != 1

    def rows(self, index: Sequence[int]) -> "Control":
        """Keep some rows of the batch, of which all or none are unguided."""
        weights, strength = self.weights, self.strength
        if isinstance(strength, Tensor) and strength.dim() == 2 and strength.shape[0] > 1:
            strength = strength[batch_places(index, strength.device)]
        if self.unguided is not None and index[0] in self.unguided:
            strength = 0.0
        if weights is not None:
            weights = weights[batch_places(index, weights.device)]
        return replace(self, weights=weights, strength=strength)


def batch_places(index: Sequence[int], device: torch.device) -> Places:
    """Return what picks some rows of a batch: a slice where they are neighbours. Nothing waits for the device."""
    if list(index) == list(range(index[0], index[-1] + 1)):
        return slice(index[0], index[-1] + 1)
    return torch.cat([torch.arange(row, row + 1, device=device) for row in index])
