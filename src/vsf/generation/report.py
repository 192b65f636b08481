"""The effect of the negatives on one picture, written beside it: numbers as JSON, and a heat map for each negative."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from vsf.controls.region import Region
from vsf.generation import Result
from vsf.generation.files import atomic_write, report_files
from vsf.generation.metadata import provenance
from vsf.generation.overlay import overlay
from vsf.runtime.report import UNSEEN


def write(picture: Path, result: Result) -> dict[str, Any]:
    """Write the report of a picture to its `report_files`, and return what the JSON file holds.

    A negative of which nothing was observed has no heat map.

    Raises:
        RequestError: a file cannot be written.
    """
    file, *maps = report_files(picture, len(result.negatives))
    document = describe(result)
    for number, (entry, place) in enumerate(zip(document["negatives"], maps, strict=True)):
        entry["heat_map"] = None
        if entry["seen"] is not None:
            image = overlay(result.image, heat_map(result, number), entry["text"])
            provenance.write(place, image, {"heat map": entry["text"]})
            entry["heat_map"] = place.name
    with atomic_write(file) as part:
        part.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return document


def describe(result: Result) -> dict[str, Any]:
    """What the report says, as JSON has it; what was not observed or not guided is None.

    Raises:
        NotGuidedError: the picture was drawn without observing what the guidance does.
    """
    report = result.report
    names = ("method", "family", "steps", "skipped", "calls", "compiled", "seconds")
    return {
        "summary": str(report),
        **{name: getattr(report, name) for name in names},
        "layers": list(report.layers),
        "change": _lists(report.change()),
        "negatives": [*_negatives(result)],
    }


def heat_map(result: Result, number: int) -> Float[Tensor, "height width"]:
    """Where a negative acted: its share of the attention, nothing where a mask keeps it out; a clip's first frame."""
    heat = result.report.heat_map(number)
    heat = heat if heat.dim() == 2 else heat[0]
    return heat if result.mask is None else heat * Region(result.mask).on(*heat.shape).to(heat)


def unseen(result: Result) -> list[str]:
    """The negatives that the picture never looked at; one of which nothing was observed is not among them."""
    if not result.report.observes:
        return []
    return [entry["text"] for entry in _negatives(result) if entry["seen"] is False]


def _negatives(result: Result) -> Iterator[dict[str, Any]]:
    """Each negative: how long, how heavy, and its share of the attention by step and layer."""
    mass = result.report.mass()
    for number, (text, weight) in enumerate(result.negatives.items()):
        tokens, share = result.report.tokens[number], mass[:, :, number]
        observed = bool(share.isfinite().any())
        yield {
            "text": text,
            "weight": weight,
            "tokens": tokens,
            "seen": float(share.nan_to_num().max()) > UNSEEN if observed else None,
            "mean_mass": float(share.nanmean()) if observed else None,
            "mass": _lists(share),
        }


def _lists(values: Tensor) -> list[list[float | None]]:
    """A (steps, layers) tensor as JSON has it: NaN is null, and six digits are enough."""
    return [[None if value != value else float(f"{value:.6g}") for value in row] for row in values.tolist()]
