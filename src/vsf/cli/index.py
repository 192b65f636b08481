"""An index of the methods, their knobs and the names of presets, for use before torch is imported.

They are declared in `vsf.guidance` and `vsf.families.catalogue.presets`, which import torch; index.json holds a copy.
`python -m vsf.cli.index` regenerates it, and a test checks that both agree.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from vsf.knobs import Knob
from vsf.registry import Registry

FILE = Path(__file__).with_name("index.json")


@cache
def methods() -> Registry[dict[str, Knob]]:
    """Return the knobs of each method by name."""
    entries: dict[str, dict[str, Knob]] = {}
    for method, knobs in _index()["methods"].items():
        entries[method] = {}
        for knob in knobs:
            entries[method][knob["name"]] = Knob(**{**knob, "choices": tuple(knob["choices"])})
    return Registry("method", entries)


@cache
def published() -> Mapping[str, tuple[str, dict[str, Any]]]:
    """Return the method and knobs of each published setting that has a name of its own, such as nag++."""
    return {name: (method, dict(knobs)) for name, (method, knobs) in _index()["published"].items()}


@cache
def preset_names() -> tuple[str, ...]:
    """Return the names of presets."""
    return tuple(_index()["presets"])


def collect() -> dict[str, Any]:
    """Collect the index from the declarations; imports torch."""
    from vsf import guidance
    from vsf.families.catalogue.presets import NAMES

    methods: dict[str, list[dict[str, Any]]] = {}
    published: dict[str, list[Any]] = {}
    for method, cls in guidance.METHODS.items():
        methods[method] = []
        for knob in guidance.knobs(cls):
            methods[method].append(asdict(knob))
        for setting, knobs in cls.PRESETS.items():
            # Otherwise the setting goes by the method's own name.
            if setting not in guidance.METHODS:
                published[setting] = [method, dict(knobs)]
    return {"methods": methods, "published": published, "presets": list(NAMES)}


def to_text(index: Mapping[str, Any]) -> str:
    """Format an index as the text of its file."""
    return json.dumps(index, indent=1, ensure_ascii=False) + "\n"


@cache
def _index() -> dict[str, Any]:
    return dict(json.loads(FILE.read_text(encoding="utf-8")))


if __name__ == "__main__":
    FILE.write_text(to_text(collect()), encoding="utf-8")
