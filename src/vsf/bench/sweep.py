"""Search the knobs of each method for the best scores on dev prompts, and freeze them for the test prompts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsf import guidance
from vsf.bench.plan import Plan, Setting
from vsf.bench.run import jsonl
from vsf.bench.run.draw import ProgressCallback, Task, run
from vsf.bench.run.judge import judge as judge_folder
from vsf.bench.run.rows import Score, scored
from vsf.bench.stats import tradeoff
from vsf.bench.stats.tables import METRICS, column, exact_mean
from vsf.errors import RequestError
from vsf.judges.base import Judge

if TYPE_CHECKING:
    import optuna

    from vsf.engines.base import Engine

STUDIES = "studies.sqlite3"
FROZEN = "frozen.json"
MATCHED = "matched.json"
ROUND = 8  # settings of a method that are tried at a time, because workers and models take a while to start


@dataclass(frozen=True)
class Point:
    """A setting with its three scores: exact means over pairs, as in a report."""

    setting: Setting
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

    def points(self, settings: Sequence[Setting], progress: ProgressCallback) -> list[Point]:
        """Draw and judge the missing images and score each setting; one without a scored image is left out.

        Raises:
            RequestError: Not one image of any setting is scored, or drawing or judging fails.
        """
        distinct = {setting.label: setting for setting in settings}
        task = replace(self.task, settings=list(distinct.values()))
        run(self.folder, task, self.drawing_engine, progress)
        judge_folder(self.folder, self.judge, self.judging_engine, _ignore_progress)
        scores_by_label: dict[str, list[Score]] = {label: [] for label in distinct}
        for score in scored(self.folder, self.judge.name):
            if score.row.label in scores_by_label:  # the folder also holds settings of earlier rounds
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


def search(evaluator: Evaluator, starts: Sequence[Setting], trials: int, progress: ProgressCallback) -> list[Point]:
    """Find the Pareto front of each method with Optuna, continuing where an earlier search stopped.

    The knobs that a start names stay fixed, and so do its steps; the others are searched over the range that they
    declare. Every trial of an interrupted search is either finished or evaluated again with the same knobs.

    Args:
        evaluator: Scores the settings, and has the folder for the studies.
        starts: A setting for each method.
        trials: Settings to try of each.
        progress: Called with the images of each round.

    Raises:
        RequestError: A start leaves no knob to search, or no image can be scored.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for start in starts:
        _free_knobs(start)  # raises before any image is drawn
    studies = [(start, _study(evaluator.folder, start)) for start in starts]
    while True:
        new_trials = []
        for start, study in studies:
            for _ in range(min(ROUND, trials - _count_finished(study))):
                new_trials.append((start, study, study.ask()))
        if not new_trials:
            break
        settings = [_suggested(start, trial) for start, _, trial in new_trials]
        # One call for all methods, so that the engine's workers are started once per round.
        points = evaluator.points(settings, progress)
        point_by_label = {point.setting.label: point for point in points}
        for (_, study, trial), setting in zip(new_trials, settings, strict=True):
            point = point_by_label.get(setting.label)
            if point is None:
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            else:
                study.tell(trial, [float(point.positive), float(point.negative), float(point.quality)])
    best = []
    for start, study in studies:
        for trial in study.best_trials:
            best.append(_with_knobs(start, trial.params))
    return evaluator.points(best, progress)


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


def freeze(file: Path, points: Sequence[Point]) -> None:
    """Write the settings of these points as a plan for `vsf bench run`. Raises RequestError."""
    jsonl.write_json(file, Plan(settings=tuple(point.setting for point in points)))


def suggest(trial: optuna.Trial, knob: guidance.Knob) -> Any:
    """Let Optuna suggest a value of a knob."""
    if knob.choices:
        return trial.suggest_categorical(knob.name, list(knob.choices))
    return trial.suggest_float(knob.name, *finite_range(knob))


def finite_range(knob: guidance.Knob) -> tuple[float, float]:
    """Return the range in which a number is searched; without an upper end it is symmetric around the default."""
    assert knob.low is not None
    assert knob.high is not None
    if math.isfinite(knob.high):
        return knob.low, knob.high
    default = float(knob.default)
    return knob.low, default + (default - knob.low)


def _suggested(start: Setting, trial: optuna.Trial) -> Setting:
    """Fill in a suggested value for every knob that the start leaves free."""
    values = {knob.name: suggest(trial, knob) for knob in _free_knobs(start)}
    return _with_knobs(start, values)


def _free_knobs(start: Setting) -> list[guidance.Knob]:
    """List the knobs that a start does not name. Raises RequestError if it names all of them."""
    free = [knob for knob in _knobs(start) if knob.name not in start.knobs]
    if not free:
        raise RequestError(f'the setting "{start.label}" leaves no knob to search.')
    return free


def _count_finished(study: optuna.Study) -> int:
    import optuna

    # A pruned trial has no scored image; it counts, or a knob at which every image fails would be tried forever.
    states = [optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED]
    return len(study.get_trials(deepcopy=False, states=states))


def _study(folder: Path, start: Setting) -> optuna.Study:
    """Open the study of a start in the folder's SQLite file, and queue its unfinished trials again."""
    import optuna

    folder.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        study_name=start.label,
        storage=f"sqlite:///{folder / STUDIES}",
        directions=["maximize"] * 3,
        load_if_exists=True,
    )
    # A new seed for each continuation: with the same one the sampler would suggest its first trials again.
    study.sampler = optuna.samplers.TPESampler(seed=len(study.trials), constant_liar=True)
    for trial in study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.RUNNING]):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        study.enqueue_trial(trial.params)
    return study


def _knobs(setting: Setting) -> tuple[guidance.Knob, ...]:
    return guidance.knobs(type(setting.guidance()))


def _with_knobs(start: Setting, knobs: Mapping[str, Any]) -> Setting:
    """Set knobs, and write them into the label; numbers are rounded, so that the label identifies the setting."""
    values = {}
    label_parts = [start.label]
    for name, value in knobs.items():
        if isinstance(value, float):
            values[name] = round(value, 4)
            label_parts.append(f"{name}={values[name]:g}")
        else:
            values[name] = value
            label_parts.append(f"{name}={value}")
    changes = {"label": " ".join(label_parts), "knobs": {**start.knobs, **values}}
    return start.model_copy(update=changes)


def _point(setting: Setting, scores: Sequence[Score]) -> Point | None:
    """Average the scored images of a setting; None if it has none."""
    table = {(score.row.pair, score.row.seed): score for score in scores}
    means = {}
    for metric in ("positive", "negative", "quality"):
        mean = exact_mean(column(table, metric))
        if mean is None:
            return None
        means[metric] = mean
    return Point(setting, **means)


def _distance(point: Point, points: Sequence[Point]) -> Fraction:
    """Return by how much both scores of a point are below those of the point that beats it most; 0 if none does."""
    distance = Fraction()
    for rival in points:
        lead = min(rival.positive - point.positive, rival.negative - point.negative)
        distance = max(distance, lead)
    return distance


def _ignore_progress(_done: int, _total: int) -> None:
    """Report nothing."""
