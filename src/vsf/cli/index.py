"""The methods, their knobs and the names of their settings, known before torch is imported.

They are declared in `vsf.guidance` and `vsf.families.catalogue.presets`; index.json says the same for those who
cannot wait. `python -m vsf.cli.index` writes it anew, and a test holds both against each other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from vsf.registry import Registry

FILE = Path(__file__).with_name("index.json")


@dataclass(frozen=True, slots=True)
class Knob:
    """What the command line needs to know of a `vsf.guidance.Knob`."""

    name: str
    default: float | str | bool
    low: float | None
    high: float | None
    choices: tuple[str | bool, ...]
    help: str
    takes_auto: bool


@cache
def methods() -> Registry[dict[str, Knob]]:
    """Return the knobs of each method by their names. A lookup that fails lists the published settings, too."""
    entries = {name: {knob["name"]: _knob(knob) for knob in knobs} for name, knobs in _index()["methods"].items()}
    return Registry("method", entries)


@cache
def published() -> Mapping[str, tuple[str, dict[str, Any]]]:
    """Return the method and knobs behind each published setting that has a name of its own, such as nag++."""
    return {name: (method, dict(knobs)) for name, (method, knobs) in _index()["published"].items()}


@cache
def preset_names() -> tuple[str, ...]:
    """Return the names that presets have."""
    return tuple(_index()["presets"])


def made() -> dict[str, Any]:
    """Gather the index from where everything is declared."""
    from vsf import guidance
    from vsf.families.catalogue.presets import NAMES

    settings = {
        preset: [method, dict(knobs)]
        for method, cls in guidance.METHODS.items()
        for preset, knobs in cls.PRESETS.items()
        if preset not in guidance.METHODS
    }
    return {
        "methods": {name: [_entry(knob) for knob in guidance.knobs(cls)] for name, cls in guidance.METHODS.items()},
        "published": settings,
        "presets": list(NAMES),
    }


def text(index: Mapping[str, Any]) -> str:
    """Write an index as it stands in the file."""
    return json.dumps(index, indent=1, ensure_ascii=False) + "\n"


def _entry(knob: Any) -> dict[str, Any]:
    return {**asdict(knob), "takes_auto": knob.takes_auto}


def _knob(entry: Mapping[str, Any]) -> Knob:
    return Knob(**{**entry, "choices": tuple(entry["choices"])})


@cache
def _index() -> dict[str, Any]:
    return dict(json.loads(FILE.read_text(encoding="utf-8")))


if __name__ == "__main__":
    FILE.write_text(text(made()), encoding="utf-8")
