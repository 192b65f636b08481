"""Estimate the remaining work of a run and its judging, and its time or cost from the work done so far."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING

from vsf.bench.run.draw import Task, planned
from vsf.bench.run.judge import outstanding
from vsf.bench.run.rows import Row, rows, verdicts

if TYPE_CHECKING:
    from vsf.judges.base import Judge, Verdict


@dataclass(frozen=True)
class DrawingEstimate:
    """Images of a task.

    Attributes:
        images: All of them.
        missing: Those still to draw.
        seconds: Time that drawing these takes, by the rows of the folder; None if it has none yet.
    """

    images: int
    missing: int
    seconds: float | None


@dataclass(frozen=True)
class JudgingEstimate:
    """Images to be judged.

    Attributes:
        judge: Name of the judge.
        missing: Images without its verdict.
        tokens: Tokens that these take, by its verdicts so far; None if none of them counts any.
        dollars: The same for US dollars.
    """

    judge: str
    missing: int
    tokens: int | None
    dollars: float | None


def drawing(folder: Path, task: Task, workers: int = 1) -> DrawingEstimate:
    """Count the images that `run` would draw, without drawing or writing anything.

    Raises:
        RequestError: The folder holds rows of other conditions, or is damaged.
    """
    drawn = rows(folder)
    done = {row.key for row in drawn}
    missing_by_setting: Counter[str] = Counter()
    for batch, keys in planned(folder, task):
        missing_by_setting[batch.setting.label] += len(set(keys) - done)
    images = len(task.settings) * len(task.pairs) * len(task.seeds)
    missing = missing_by_setting.total()
    if not drawn:
        return DrawingEstimate(images, missing, None)
    seconds = 0.0
    for label, count in missing_by_setting.items():
        seconds += count * _seconds(label, drawn)
    return DrawingEstimate(images, missing, seconds / workers)


def judging(folder: Path, judge: Judge) -> JudgingEstimate:
    """Count the images that a judge would be asked about, without asking. Raises RequestError."""
    missing = len(outstanding(folder, judge))
    earlier = [verdict for verdict in verdicts(folder) if verdict.judge == judge.name]
    return _priced(judge.name, missing, earlier)


def judging_of(folder: Path, missing: int) -> list[JudgingEstimate]:
    """Estimate the judging of `missing` images more, for each judge of a folder that counts tokens or cost."""
    by_judge: dict[str, list[Verdict]] = {}
    for verdict in verdicts(folder):
        by_judge.setdefault(verdict.judge, []).append(verdict)
    estimates = []
    for judge, earlier in by_judge.items():
        estimate = _priced(judge, missing, earlier)
        if estimate.tokens is not None or estimate.dollars is not None:
            estimates.append(estimate)
    return estimates


def _seconds(label: str, drawn: Sequence[Row]) -> float:
    """Return the median seconds per image of a setting, or of all settings if it has no rows yet."""
    of_setting = [row for row in drawn if row.label == label]
    return median(row.run.seconds for row in of_setting or drawn)


def _priced(judge: str, missing: int, earlier: Sequence[Verdict]) -> JudgingEstimate:
    """Extrapolate the mean of a judge's earlier verdicts."""
    tokens: list[int] = []
    dollars: list[float] = []
    for verdict in earlier:
        if verdict.tokens is not None:
            tokens.append(verdict.tokens)
        if verdict.cost is not None:
            dollars.append(verdict.cost)
    return JudgingEstimate(
        judge,
        missing,
        round(fmean(tokens) * missing) if tokens else None,
        fmean(dollars) * missing if dollars else None,
    )
