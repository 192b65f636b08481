"""How strongly the negatives act in one attention call, and who watches what they do."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor


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
    """Weights of the negatives, strength of the method, and an observer; by default 1, 1 and none.

    weights: (batch, negatives). Weight w adds ln w to the logits that image rows have for that negative's keys, so that
        two equal halves equal one whole; 0 is absent. A negative's own stream is not weighted.
    strength: m in out = Z⁺ + m·(combined − Z⁺), a number, or (queries,) or (batch, queries) over the image rows. 0
        leaves Z⁺ and 1 the method's own result, both to the last bit.
    watch: called with what was observed, once for every layout of the batch; not where attention comes without its
        log-sum-exp (gradients wanted; devices without a fused kernel), which would have to be computed for it.
    """

    weights: Float[Tensor, "batch negatives"] | None = None
    strength: float | Float[Tensor, "..."] = 1.0
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
        """Keep some rows of the batch."""
        weights, strength = self.weights, self.strength
        if isinstance(strength, Tensor) and strength.dim() == 2 and strength.shape[0] > 1:
            strength = strength[list(index)]
        return replace(self, weights=None if weights is None else weights[list(index)], strength=strength)
