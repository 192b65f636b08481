"""The schedule of a negative prompt: a window of the steps, a curve over it, a choice of layers."""

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
    """The strength of guidance on each step, and the layers in which it acts.

    Strength m blends per query, for every method: out = Z⁺ + m·(combined − Z⁺); 1 is the method as it is, 0 leaves the
    model untouched. A step is identified by the fraction of the run that is done before it begins: 0 for the first,
    towards 1. With `over="steps"` each step counts alike; with `over="sigma"` it is the fraction of the noise that is
    gone, 1 − σ/σ₀ with the first step's σ₀, which does not depend on how many steps there are. Outside [start, end) the
    strength is 0, so `start == end` is off. Inside:

    - `constant`: 1; it jumps at both edges.
    - `linear`: falls from 1 at `start` straight to 0 at `end`, so that it ends without a jump.
    - `cosine`: falls likewise along half a cosine, flat at both ends.

    Args:
        start, end: fractions of the run, 0 <= start <= end <= 1.
        curve: "constant", "linear" or "cosine".
        over: "steps" or "sigma": whether the fractions are of steps or of noise.
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
        # start <= fraction < end, so start and end differ and nothing is divided by 0.
        remaining = (self.end - fraction) / (self.end - self.start)
        match self.curve:
            case "constant":
                return 1.0
            case "linear":
                return remaining
            case "cosine":
                return (1 - cos(pi * remaining)) / 2

    def acts_on(self, layer_index: int, layer_count: int) -> bool:
        """Tell whether a layer is guided.

        Args:
            layer_index: counted from 0.
            layer_count: how many layers the model has.

        Raises:
            KnobError: the schedule names a layer that the model does not have.
        """
        if self.layers is None:
            return True
        layer_indices = cast(tuple[int, ...], self.layers)
        last = layer_indices[-1]
        if last >= layer_count:
            raise KnobError(f"layers names layer {last}, but the model has {layer_count}: 0 to {layer_count - 1}")
        return layer_index in layer_indices


def _fraction(name: str, value: object) -> float:
    # True and False are ints, too.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise KnobError(f"{name} is a number from 0 to 1, got {value!r}")
    return float(value)


def _indices(layers: object) -> tuple[int, ...]:
    """Return the layers that were asked for, sorted, each once."""
    ranges: list[range] = []  # an empty range marks a part that names no layer
    if isinstance(layers, str):
        ranges = [_range(part) for part in layers.split(",")]
    elif isinstance(layers, Iterable):
        for index in layers:
            is_index = isinstance(index, int) and not isinstance(index, bool) and index >= 0
            ranges.append(range(index, index + 1) if is_index else range(0))
    if not ranges or not all(ranges):
        raise KnobError(
            f'layers are indices from 0 and ranges from low to high, such as "0-11,14" or [0, 14], got {layers!r}; '
            "for every layer leave them out"
        )
    return tuple(sorted(set[int]().union(*ranges)))


def _range(part: str) -> range:
    """Read one index or range, such as "14" or "0-11"; an empty range for anything else."""
    match = re.fullmatch(r"\s*([0-9]{1,4})(?:\s*-\s*([0-9]{1,4}))?\s*", part)
    if match is None:
        return range(0)
    first = int(match[1])
    last = int(match[2] or first)
    return range(first, last + 1)
