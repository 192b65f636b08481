"""Rows of the speed benchmark: medians with their intervals, the file they stand in, and the bounds on a CPU."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from pathlib import Path
from statistics import median
from typing import Any

Row = dict[str, Any]

__all__ = ["BOUNDS", "Bound", "append", "broken", "median", "order_interval", "read_rows", "rounded"]


def order_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Return two of the values between which the median of what they are drawn from lies with this probability.

    The number of values below the median is binomial, whatever they are distributed like. Fewer than six values cannot
    give 95 %; then it is the least and the greatest.
    """
    ordered, count = sorted(values), len(values)
    rank, tail = 0, 0.5**count
    while rank + 1 < count / 2 and tail + comb(count, rank + 1) * 0.5**count <= (1 - confidence) / 2:
        rank += 1
        tail += comb(count, rank) * 0.5**count
    return ordered[rank], ordered[count - 1 - rank]


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a file, none where there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def rounded(value: Any) -> Any:
    """Keep six digits of every number, which is more than any clock means."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    return {name: rounded(inner) for name, inner in value.items()} if isinstance(value, dict) else value


def append(path: Path, row: Row) -> None:
    """Add a row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(rounded(row)) + "\n")


@dataclass(frozen=True)
class Bound:
    """The most that a figure of some rows may be.

    low: the column that has to be above it for the bound to break: the lower end of a median's interval, or a count.
    """

    where: dict[str, Any]
    figure: str
    low: str
    most: float

    def holds_for(self, row: Row) -> bool:
        """Whether a row is within the bound, or of another kind."""
        if row["checkout"] != "here" or any(row.get(key) != value for key, value in self.where.items()):
            return True
        return self.low not in row or row[self.low] <= self.most

    def describe(self, row: Row) -> str:
        """Say what is bounded, and how it stands."""
        what = ", ".join(str(value) for value in self.where.values())
        return f"{what}: {self.figure} {row[self.figure]:.4g} (at least {row[self.low]:.4g}), at most {self.most:g}"


def _time(model: str, run: str, most: float, batch: int = 1) -> Bound:
    return Bound({"model": model, "run": run, "batch": batch}, "ratio", "lo", most)


def _count(run: str, figure: str, most: float) -> Bound:
    return Bound({"model": "sd3-blocks", "run": run}, figure, figure, most)


BOUNDS = (
    _time("sd3-blocks", "vsf", 1.03),
    _time("sd3-blocks", "vsf orthogonal", 1.035),
    _time("sd3-blocks", "nag", 1.06),
    _time("wan-block", "vsf", 1.015),
    _time("wan-block", "nag", 1.03),
    _time("tiny", "vsf", 1.05, batch=8),
    _time("tiny", "nag", 1.08, batch=8),
    Bound({"model": "tiny", "run": "vsf", "batch": 1}, "added_over_against", "added_over_against_lo", 0.27),
    _count("vsf", "python_calls", 40),
    _count("nag", "python_calls", 60),
    _count("vsf", "added_operations", 20),
    _count("nag", "added_operations", 30),
)


def broken(rows: Sequence[Row], bounds: Sequence[Bound]) -> list[tuple[Bound, Row]]:
    """Return every bound that a row breaks."""
    return [(bound, row) for bound in bounds for row in rows if not bound.holds_for(row)]
