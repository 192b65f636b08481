"""Knobs: the settings of a method, declared once with default, range and help.

Command-line flags, node inputs, sliders and sweeps are generated from these declarations. Without torch, because the
command line needs them before it can afford that import.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from functools import cache
from typing import Any, Literal

from vsf.errors import KnobError

Auto = Literal["auto"]
AUTO: Auto = "auto"
"""The value of a method's `scale` that leaves the number to each step (see `vsf.guidance.auto`)."""


@dataclass(frozen=True, slots=True)
class Knob:
    """One setting: a number in [low, high], or one of `choices` (True and False for a switch)."""

    name: str
    default: float | str | bool
    low: float | None
    high: float | None
    choices: tuple[str | bool, ...]
    help: str

    def check(self, value: object) -> None:
        """Raise KnobError unless the value is allowed.

        A tensor may have any value: reading it would wait for the device, and break the graph of compiled code.
        """
        if self.choices:
            # 1 == True, so without the second test a switch would take numbers.
            if value not in self.choices or isinstance(value, bool) != isinstance(self.default, bool):
                raise KnobError(f"{self.name} is one of {', '.join(map(repr, self.choices))}, got {value!r}")
            return
        if hasattr(value, "is_floating_point") and value.is_floating_point():
            return
        if isinstance(value, str) and value == AUTO and self.takes_auto:
            return
        assert self.low is not None
        assert self.high is not None
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            auto = f', or "{AUTO}"' if self.takes_auto else ""
            raise KnobError(f"{self.name} is a number from {self.low:g} to {self.high:g}{auto}, got {value!r}")

    @property
    def takes_auto(self) -> bool:
        """True if "auto" is allowed."""
        return self.name == "scale"


def knob(default: float, *, low: float, high: float, help: str) -> Any:
    """Declare a number in [low, high] as a dataclass field."""
    return field(default=default, metadata={"low": low, "high": high, "choices": (), "help": help})


def choice(default: str | bool, *, choices: Sequence[str | bool] = (False, True), help: str) -> Any:
    """Declare one of several values as a dataclass field; without `choices`, a switch."""
    return field(default=default, metadata={"low": None, "high": None, "choices": tuple(choices), "help": help})


@cache
def knobs(cls: type) -> tuple[Knob, ...]:
    """Return the knobs of a method class, in order of declaration."""
    # Made once for each class: they are asked for in every denoiser call.
    return tuple(Knob(name=f.name, default=f.default, **f.metadata) for f in fields(cls) if f.metadata)  # type: ignore[arg-type]


def check_names(cls: type, label: str, names: Sequence[str]) -> None:
    """Raise KnobError for the first name that is no knob of the class.

    Args:
        cls: the method class.
        label: the name of the class in the error, such as 'method "vsf"'.
        names: the names to check.
    """
    knob_names = [knob.name for knob in knobs(cls)]
    for name in names:
        if name in knob_names:
            continue
        close = get_close_matches(name, knob_names, n=1)
        hint = f' Did you mean "{close[0]}"?' if close else ""
        raise KnobError(f'{label} has no knob "{name}". Known: {", ".join(knob_names) or "none"}.{hint}')
