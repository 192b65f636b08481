"""Write a picture's report beside it: figures on each negative as JSON, and a heat map for each."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from vsf.controls.grid import Grid
from vsf.controls.region import Region
from vsf.generation import Result
from vsf.generation.files import report_files, write_json
from vsf.generation.metadata import provenance
from vsf.generation.overlay import overlay
from vsf.runtime.report import UNSEEN

REPORT_FIELDS = ("method", "family", "steps", "skipped", "calls", "compiled", "seconds")
"""Attributes of `vsf.runtime.report.Report` that are taken over as they are."""


def write(picture: Path, result: Result) -> dict[str, Any]:
    """Write the report of a picture to its `report_files`.

    A negative of which nothing was observed gets no heat map.

    Returns:
        The content of the JSON file.

    Raises:
        RequestError: a file cannot be written.
        NotGuidedError: the picture was drawn without observing the guidance.
    """
    report_file, *heat_map_files = report_files(picture, len(result.negatives))
    document = describe(result)
    for number, (entry, file) in enumerate(zip(document["negatives"], heat_map_files, strict=True)):
        entry["heat_map"] = None
        if entry["seen"] is not None:
            image = overlay(result.image, heat_map(result, number), entry["text"])
            provenance.write(file, image, {"heat map": entry["text"]})
            entry["heat_map"] = file.name
    write_json(report_file, document)
    return document


def describe(result: Result) -> dict[str, Any]:
    """Return the report as JSON values; figures that were not observed are None.

    Raises:
        NotGuidedError: the picture was drawn without observing the guidance.
    """
    report = result.report
    document: dict[str, Any] = {"summary": str(report)}
    for name in REPORT_FIELDS:
        document[name] = getattr(report, name)
    document["layers"] = list(report.layers)
    document["change"] = _lists(report.change())
    document["negatives"] = list(_negatives(result))
    return document


def heat_map(result: Result, number: int) -> Float[Tensor, "height width"]:
    """Return a negative's share of the attention over the picture, 0 where a mask keeps it out; of a clip, frame 1."""
    heat = result.report.heat_map(number)
    if heat.dim() == 3:  # frames, height, width
        heat = heat[0]
    return heat if result.mask is None else heat * Region(result.mask).on(Grid(*heat.shape))[0].to(heat)


def unseen(result: Result) -> list[str]:
    """Return the negatives that the picture never looked at, as far as they were observed."""
    if not result.report.observes:
        return []
    return [entry["text"] for entry in _negatives(result) if entry["seen"] is False]


def _negatives(result: Result) -> Iterator[dict[str, Any]]:
    """Yield the length and weight of each negative, and its share of the attention by step and layer."""
    mass = result.report.mass()
    for number, (text, weight) in enumerate(result.negatives.items()):
        share = mass[:, :, number]
        # NaN stands for a layer that was not guided in that step.
        observed = bool(share.isfinite().any())
        yield {
            "text": text,
            "weight": weight,
            "tokens": result.report.tokens[number],
            "seen": float(share.nan_to_num().max()) > UNSEEN if observed else None,
            "mean_mass": float(share.nanmean()) if observed else None,
            "mass": _lists(share),
        }


def _lists(values: Float[Tensor, "steps layers"]) -> list[list[float | None]]:
    """Turn a tensor into lists for JSON: NaN becomes null, numbers keep six digits."""
    rows: list[list[float | None]] = []
    for row in values.tolist():
        rows.append([None if math.isnan(value) else float(f"{value:.6g}") for value in row])
    return rows
