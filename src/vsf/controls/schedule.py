"""When and where a negative prompt acts: a window of the steps, a curve over it, a choice of layers."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import cos, pi
from typing import Literal, cast, get_args

from vsf.errors import KnobError

Curve = Literal["constant", "linear", "cosine"]
Axis = Literal["steps", "sigma"]


@dataclass(frozen=True, slots=True)
class Schedule:
    """How strongly guidance acts on each step, and in which layers.

    Strength m blends per query, for every method: out = Z⁺ + m·(combined − Z⁺); 1 is the method as it is, 0 leaves the
    model untouched. Steps are told by the fraction of the run that is done before the step begins: 0 for the first,
    towards 1. With `over="steps"` each step counts alike; with `over="sigma"` it is the fraction of the noise that is
    gone, 1 − σ/σ₀ with the first step's σ₀, which does not depend on how many steps there are. Outside [start, end) the
    strength is 0, so `start == end` is off. Inside:

    - `constant`: 1; it jumps at both edges.
    - `linear`: falls from 1 at `start` straight to 0 at `end`, so that it reaches off without a jump.
    - `cosine`: the same along half a cosine, flat at both ends.

    Args:
        start, end: fractions of the run, 0 <= start <= end <= 1.
        curve: "constant", "linear" or "cosine".
        over: "steps" or "sigma", what the fractions are of.
        layers: the guided layers, counted from 0: indices and ranges with both ends as text, "0-11,14", or a sequence
            of indices; kept as a sorted tuple. None: every layer.

    Raises:
        KnobError: a value is not as described.
    """

    start: float = 0.0
    end: float = 1.0
    curve: Curve = "constant"
    layers: str | Sequence[int] | None = None
    over: Axis = "steps"

    def __post_init__(self) -> None:
        for name in ("start", "end"):
            object.__setattr__(self, name, _fraction(name, getattr(self, name)))
        if self.start > self.end:
            raise KnobError(f"start has to lie at or before end, got start {self.start:g} and end {self.end:g}")
        for name, choices in (("curve", get_args(Curve)), ("over", get_args(Axis))):
            if getattr(self, name) not in choices:
                raise KnobError(f"{name} is one of {', '.join(choices)}, got {getattr(self, name)!r}")
        if self.layers is not None:
            object.__setattr__(self, "layers", _indices(self.layers))

    def strength(self, fraction: float) -> float:
        """Return the strength, 0 to 1, of a step that begins when `fraction` of the run is done.

        Raises:
            KnobError: the fraction is not a number from 0 to 1.
        """
        fraction = _fraction("the fraction of the steps done", fraction)
        if not self.start <= fraction < self.end:
            return 0.0
        left = (self.end - fraction) / (self.end - self.start)
        match self.curve:
            case "constant":
                return 1.0
            case "linear":
                return left
            case "cosine":
                return (1 - cos(pi * left)) / 2

    def acts_on(self, layer_index: int, layer_count: int) -> bool:
        """Tell whether the layer is guided in a model of `layer_count` layers.

        Raises:
            KnobError: the schedule names a layer that the model does not have.
        """
        if self.layers is None:
            return True
        named = cast(tuple[int, ...], self.layers)
        if named[-1] >= layer_count:
            raise KnobError(f"layers names layer {named[-1]}, but the model has {layer_count}: 0 to {layer_count - 1}")
        return layer_index in named


def _fraction(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise KnobError(f"{name} is a number from 0 to 1, got {value!r}")
    return float(value)


def _indices(layers: object) -> tuple[int, ...]:
    """List the layers that were asked for, sorted, each once."""
    ranges: list[range] = []  # an empty one stands for a part that names no layer
    if isinstance(layers, str):
        found = [re.fullmatch(r"\s*([0-9]{1,4})(?:\s*-\s*([0-9]{1,4}))?\s*", part) for part in layers.split(",")]
        ranges = [range(int(part[1]), int(part[2] or part[1]) + 1) if part else range(0) for part in found]
    elif isinstance(layers, Iterable):
        whole = [part if isinstance(part, int) and not isinstance(part, bool) else -1 for part in layers]
        ranges = [range(index, index + 1) if index >= 0 else range(0) for index in whole]
    if not ranges or not all(ranges):
        raise KnobError(
            f'layers are indices from 0 and ranges from low to high, such as "0-11,14" or [0, 14], got {layers!r}; '
            "for every layer leave them out"
        )
    return tuple(sorted(set[int]().union(*ranges)))
