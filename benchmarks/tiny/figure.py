"""Measured figures and their bounds."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Figure:
    """A measured value with its bounds.

    Attributes:
        name: Of the measured quantity.
        value: None if it was not measured.
        low: Lower bound; -inf for none.
        high: Upper bound; inf for none. A figure without bounds is there for comparison.
        note: How it was measured, or why it was not.
        spread: Lowest and highest possible value, whatever the unscored pictures show. Bounds have to hold for both,
            since leaving pictures out of a mean must not flatter it.
    """

    name: str
    value: float | None
    low: float = -math.inf
    high: float = math.inf
    note: str = ""
    spread: tuple[float, float] | None = None

    @property
    def held(self) -> bool | None:
        """True if the value lies within its bounds; None if there is no value, or no bound."""
        least, most = self.spread or (self.value, self.value)
        if least is None or most is None or self.bound == "":
            return None
        return self.low <= least and most <= self.high

    @property
    def bound(self) -> str:
        """The bounds as text; empty if there are none."""
        if math.isinf(self.low):
            return "" if math.isinf(self.high) else f"≤ {self.high:g}"
        return f"≥ {self.low:g}" if math.isinf(self.high) else f"{self.low:g}–{self.high:g}"


def table(figures: Iterable[Figure]) -> str:
    """Format one line per figure: name, value, bound, and whether it held."""
    marks = {True: "ok", False: "FALLS SHORT", None: ""}
    lines = []
    for figure in figures:
        mark = "not measured" if figure.value is None and figure.spread is None else marks[figure.held]
        value = "–" if figure.value is None else f"{figure.value:.3f}"
        note = f"  ({figure.note})" if figure.note else ""
        lines.append(f"{figure.name:<62} {value:>6}  {figure.bound:>10}  {mark}{note}".rstrip())
    return "\n".join(lines)


def write(path: Path, figures: Iterable[Figure], **rest: Sequence[Mapping[str, Any]]) -> None:
    """Write the figures and lists of rows as JSON, one row to a line; an older file is replaced as a whole."""
    listed = []
    for figure in figures:
        listed.append({**_finite(asdict(figure)), "held": figure.held})
    lists: dict[str, Sequence[Mapping[str, Any]]] = {"figures": listed, **rest}
    blocks = []
    for name, rows in lists.items():
        lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
        blocks.append(f"{json.dumps(name)}: [\n{lines}\n]")
    path.parent.mkdir(parents=True, exist_ok=True)
    # Written beside the old file and renamed, so that a crash leaves that one whole.
    part = path.with_suffix(".part")
    part.write_text("{\n" + ",\n".join(blocks) + "\n}\n", encoding="utf-8")
    os.replace(part, path)


def _finite(fields: dict[str, Any]) -> dict[str, Any]:
    """Replace infinite bounds by null, because JSON has no infinity, and leave out a spread that is None."""
    plain = {}
    for name, value in fields.items():
        is_infinite = isinstance(value, float) and math.isinf(value)
        if name != "spread" or value is not None:
            plain[name] = None if is_infinite else value
    return plain
