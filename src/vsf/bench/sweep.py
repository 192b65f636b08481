"""Score settings on dev prompts, sweep a knob over its range, and freeze the best settings for the test prompts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from vsf import guidance
from vsf.bench.plan import Plan, Setting
from vsf.bench.run import jsonl
from vsf.bench.run.draw import ProgressCallback, Task, run
from vsf.bench.run.judge import judge as judge_folder
from vsf.bench.run.rows import Score, rows
from vsf.bench.run.scored import scored
from vsf.bench.stats import tradeoff
from vsf.bench.stats.tables import column, exact_mean
from vsf.errors import RequestError
from vsf.judges.base import Judge

if TYPE_CHECKING:
    from vsf.engines.base import Engine

FROZEN = "frozen.json"
MATCHED = "matched.json"


@dataclass(frozen=True)
class Point:
    """A setting with its scores: exact means over pairs, as in a report; no success where the judge tells none."""

    setting: Setting
    success: Fraction | None
    positive: Fraction
    negative: Fraction
    quality: Fraction


@dataclass(frozen=True)
class Evaluator:
    """Scores settings by drawing and judging them; every row is kept.

    Attributes:
        folder: For rows and verdicts.
        task: Pairs, seeds and conditions; its settings are not used.
        judge: Scores the images.
        drawing_engine: Runs the drawing.
        judging_engine: Runs the judge.
    """

    folder: Path
    task: Task
    judge: Judge
    drawing_engine: Engine
    judging_engine: Engine

    def points(
        self, settings: Sequence[Setting], progress: ProgressCallback, prompts: int | None = None
    ) -> list[Point]:
        """Draw and judge the missing images and score each setting; one without a scored image is left out.

        Args:
            settings: The settings.
            progress: Called after every batch.
            prompts: Only the first so many pairs count, whatever else was drawn earlier; all if None.

        Raises:
            RequestError: Not one image of any setting is scored, or drawing or judging fails.
        """
        distinct = {setting.label: setting for setting in settings}
        pairs = self.task.pairs[:prompts]
        pair_ids = {pair.id for pair in pairs}
        task = replace(self.task, settings=list(distinct.values()), pairs=pairs)
        run(self.folder, task, self.drawing_engine, progress)
        judge_folder(self.folder, self.judge, self.judging_engine, _ignore_progress)
        scores_by_label: dict[str, list[Score]] = {label: [] for label in distinct}
        for score in scored(self.folder, self.judge.name):
            # The folder also holds settings of earlier rounds, and pairs of later ones.
            if score.row.label in scores_by_label and score.row.pair in pair_ids:
                scores_by_label[score.row.label].append(score)
        points = []
        for label, setting in distinct.items():
            point = _point(setting, scores_by_label[label])
            if point is not None:
                points.append(point)
        if not points:
            first = scores_by_label[next(iter(distinct))][0]
            raise RequestError(f'not one image could be scored; the first, of "{first.row.label}": {first.reason}.')
        return points


def grid(start: Setting, knob: str, count: int, bounds: tuple[float, float] | None = None) -> list[Setting]:
    """Vary one knob of a setting in equal steps.

    Args:
        start: The setting.
        knob: Name of the knob that becomes its strength.
        count: Number of strengths.
        bounds: The lowest and the highest. Without them the strengths start one step above the knob's low end, where
            most methods are off, and end at its high end.

    Raises:
        RequestError: Fewer than two strengths, or a knob that is not a number.
        KnobError: A bound that the knob does not allow.
    """
    knobs = {candidate.name: candidate for candidate in _knobs(start)}
    if knob not in knobs or knobs[knob].low is None:
        raise RequestError(
            f'"{start.label}" has no number called {knob} to sweep; it has {", ".join(knobs) or "none"}.'
        )
    if count < 2:
        raise RequestError(f"a frontier needs at least 2 strengths, got {count}.")
    low, high = bounds or finite_range(knobs[knob])
    step = (high - low) / (count - 1 if bounds else count)
    settings = []
    for index in reversed(range(count)):
        value = round(high - step * index, 6)
        knobs[knob].check(value)
        changes = {
            "label": f"{start.label} {knob}={value:g}",
            "knobs": {**start.knobs, knob: value},
            "strength": value,
        }
        settings.append(start.model_copy(update=changes))
    return settings


def nearest_frontier(points: Sequence[Point], count: int) -> list[Point]:
    """Choose the `count` points closest to the frontier of positive against negative score, in order of strength.

    A point's distance is how much both scores would have to rise until no other point beats it in both. If there are
    too many on the frontier itself, those spread most evenly over the negative score are chosen.
    """
    on_frontier: list[Point] = []
    below: list[tuple[Fraction, Point]] = []
    for point in points:
        distance = _distance(point, points)
        if distance > 0:
            below.append((distance, point))
        else:
            on_frontier.append(point)
    on_frontier.sort(key=lambda point: point.negative)
    below.sort(key=lambda entry: entry[0])
    if len(on_frontier) > count:
        last = len(on_frontier) - 1
        on_frontier = [on_frontier[round(index * last / max(1, count - 1))] for index in range(count)]
    chosen = list(on_frontier)
    for _, point in below[: count - len(on_frontier)]:
        chosen.append(point)
    return sorted(chosen, key=lambda point: point.setting.strength or 0.0)


def at_positive_score(points: Sequence[Point], min_positive: float) -> list[Point]:
    """Choose the one or two points of a curve that a report mixes to get exactly this positive score.

    Drawing more images of these (see `vsf.bench.stats.tradeoff.match`) sharpens the comparison between methods. The
    list is empty if the curve never scores as high.
    """
    candidates = []
    for point in points:
        candidates.append(tradeoff.Point(point.setting.label, point.positive, point.negative))
    mixture = tradeoff.match(candidates, min_positive)
    if mixture is None:
        return []
    return [point for point in points if point.setting.label in mixture.labels]


def freeze(file: Path, settings: Sequence[Setting]) -> None:
    """Write settings as a plan for `vsf bench run`. Raises RequestError."""
    jsonl.write_json(file, Plan(settings=tuple(settings)))


def seconds_per_image(folder: Path) -> float | None:
    """Return the median seconds that an image of a folder took to draw; None if it has none."""
    drawn = rows(folder)
    return median(row.run.seconds for row in drawn) if drawn else None


def finite_range(knob: guidance.Knob) -> tuple[float, float]:
    """Return the range in which a number is searched; without an upper end it is symmetric around the default."""
    assert knob.low is not None
    assert knob.high is not None
    if math.isfinite(knob.high):
        return knob.low, knob.high
    default = float(knob.default)
    return knob.low, default + (default - knob.low)


def _knobs(setting: Setting) -> tuple[guidance.Knob, ...]:
    return guidance.knobs(type(setting.guidance()))


def _point(setting: Setting, scores: Sequence[Score]) -> Point | None:
    """Average the scored images of a setting; None if it has none."""
    table = {(score.row.pair, score.student, score.row.seed): score for score in scores}
    positive, negative, quality, success = (
        exact_mean(column(table, metric)) for metric in ("positive", "negative", "quality", "success")
    )
    if positive is None or negative is None or quality is None:
        return None
    return Point(setting, success, positive, negative, quality)


def _distance(point: Point, points: Sequence[Point]) -> Fraction:
    """Return by how much both scores of a point are below those of the point that beats it most; 0 if none does."""
    distance = Fraction()
    for rival in points:
        lead = min(rival.positive - point.positive, rival.negative - point.negative)
        distance = max(distance, lead)
    return distance


def _ignore_progress(_done: int, _total: int) -> None:
    """Report nothing."""
