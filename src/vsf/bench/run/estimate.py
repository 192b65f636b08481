"""Estimate what a run and its judging still have to do, and from what was done so far how long and how dear that is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING

from vsf.bench.run.draw import Task, planned
from vsf.bench.run.judge import outstanding
from vsf.bench.run.rows import Row, Verdict, rows, verdicts

if TYPE_CHECKING:
    from vsf.judges.base import Judge


@dataclass(frozen=True)
class DrawingEstimate:
    """Images of a task: all of them, and those still to draw.

    seconds: that drawing these takes, from the seconds of the folder's rows; None where it holds none yet.
    """

    images: int
    missing: int
    seconds: float | None


@dataclass(frozen=True)
class JudgingEstimate:
    """Images still to be judged.

    tokens, dollars: that these take, from the verdicts of the same judge; None where it gave none yet that says.
    """

    judge: str
    missing: int
    tokens: int | None
    dollars: float | None


def drawing(folder: Path, task: Task, workers: int = 1) -> DrawingEstimate:
    """Count the images that `run` would draw. Nothing is drawn or written.

    Raises:
        RequestError: the folder holds rows of other conditions, or is damaged.
    """
    drawn = rows(folder)
    done = {row.key for row in drawn}
    missing = {key: batch.setting.label for batch, keys in planned(folder, task) for key in keys if key not in done}
    images = len(task.settings) * len(task.pairs) * len(task.seeds)
    if not drawn:
        return DrawingEstimate(images, len(missing), None)
    by_setting = Counter(missing.values())
    seconds = sum(count * _seconds(label, drawn) for label, count in by_setting.items())
    return DrawingEstimate(images, len(missing), seconds / workers)


def judging(folder: Path, judge: Judge) -> JudgingEstimate:
    """Count the images that a judge would be asked about. Nobody is asked. Raises RequestError."""
    missing = len(outstanding(folder, judge))
    return _priced(judge.name, missing, [verdict for verdict in verdicts(folder) if verdict.judge == judge.name])


def judging_of(folder: Path, missing: int) -> list[JudgingEstimate]:
    """Estimate the judging of so many images more, for each judge of a folder that counted tokens or cost."""
    given = verdicts(folder)
    names = dict.fromkeys(verdict.judge for verdict in given if (verdict.tokens, verdict.cost) != (None, None))
    return [_priced(name, missing, [verdict for verdict in given if verdict.judge == name]) for name in names]


def _seconds(label: str, drawn: Sequence[Row]) -> float:
    """Take the median of the setting's own rows, or of all rows where it has none."""
    own = [row.seconds for row in drawn if row.label == label]
    return median(own or [row.seconds for row in drawn])


def _priced(judge: str, missing: int, given: Sequence[Verdict]) -> JudgingEstimate:
    tokens = [verdict.tokens for verdict in given if verdict.tokens is not None]
    dollars = [verdict.cost for verdict in given if verdict.cost is not None]
    return JudgingEstimate(
        judge,
        missing,
        round(fmean(tokens) * missing) if tokens else None,
        fmean(dollars) * missing if dollars else None,
    )
