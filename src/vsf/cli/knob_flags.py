"""Knobs on the command line: a flag for every knob of every method, and how their values are written."""

from __future__ import annotations

from inspect import Parameter
from typing import Any

from vsf.cli import index
from vsf.cli.options import flag
from vsf.knobs import Knob

PANEL = "Knobs of the methods"


def knob_flags() -> list[Parameter]:
    """Build one flag for each name of a knob, with the help of every method that has such a knob."""
    owners: dict[str, list[tuple[str, Knob]]] = {}
    for method, knobs in index.methods().items():
        for knob in knobs.values():
            owners.setdefault(knob.name, []).append((method, knob))
    return [_knob_flag(*owner) for owner in owners.items()]


def _knob_flag(name: str, owners: list[tuple[str, Knob]]) -> Parameter:
    text = " ".join(f"{method}: {knob.help} ({allowed_values(knob)})" for method, knob in owners)
    _, knob = owners[0]  # knobs of one name are of one type
    settings: dict[str, Any] = {"rich_help_panel": PANEL}
    if isinstance(knob.default, bool):
        return flag(name, bool, text, spelled=f"--{name}/--no-{name}".replace("_", "-"), **settings)
    if knob.takes_auto:
        return flag(name, str, text, parser=number_or_auto, metavar="NUMBER|auto", **settings)
    return flag(name, str if knob.choices else float, text, **settings)


def number_or_auto(text: str) -> float | str:
    """Parse a knob that may be "auto", which leaves its value to each step.

    Raises:
        ValueError: the text is neither "auto" nor a number.
    """
    return text if text == "auto" else float(text)


def allowed_values(knob: Knob) -> str:
    """Format the values that a knob takes and its default: `0 to 10, or auto; default 1.0`."""
    values = ", ".join(map(format_value, knob.choices)) if knob.choices else f"{knob.low:g} to {knob.high:g}"
    if knob.takes_auto:
        values += ", or auto"
    return f"{values}; default {format_value(knob.default)}"


def format_value(value: object) -> str:
    """Format a knob's value as it is written on the command line."""
    return str(value).lower() if isinstance(value, bool) else str(value)
