"""Look for the knobs of each method that score best on dev prompts, and freeze them for the test prompts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsf import guidance
from vsf.bench.plan import Plan, Setting
from vsf.bench.run import jsonl as journal
from vsf.bench.run.draw import Engine, Task, Tick, run
from vsf.bench.run.judge import judge as judge_folder
from vsf.bench.run.rows import Score, scored
from vsf.bench.stats import tradeoff
from vsf.bench.stats.tables import METRICS, column, exact_mean
from vsf.errors import RequestError
from vsf.judges.base import Judge

if TYPE_CHECKING:
    import optuna

STUDIES = "studies.sqlite3"
FROZEN, MATCHED = "frozen.json", "matched.json"
ROUND = 8  # settings of a method that are tried at a time, because workers and models take a while to start


@dataclass(frozen=True)
class Point:
    """What a setting scored: exact means over the pairs, as in a report."""

    setting: Setting
    positive: Fraction
    negative: Fraction
    quality: Fraction


@dataclass(frozen=True)
class Trying:
    """How a setting is tried out: drawn with `draw` and judged with `judge`, every row kept in `folder`."""

    folder: Path
    task: Task
    judge: Judge
    draw: Engine
    ask: Engine

    def points(self, settings: Sequence[Setting], tick: Tick) -> list[Point]:
        """Draw and judge what is missing, and score each setting; one that ruins every picture has no scores.

        Raises:
            RequestError: not one image of any setting could be scored; and whatever `run` and `judge` raise.
        """
        distinct = {setting.label: setting for setting in settings}
        run(self.folder, replace(self.task, settings=list(distinct.values())), self.draw, tick)
        judge_folder(self.folder, self.judge, self.ask, _silent)
        by_label: dict[str, list[Score]] = {label: [] for label in distinct}
        for score in scored(self.folder, self.judge.name):
            if score.label in by_label:
                by_label[score.label].append(score)
        found = [_point(setting, by_label[label]) for label, setting in distinct.items()]
        if not any(found):
            first = by_label[next(iter(distinct))][0]
            raise RequestError(f'not one image could be scored; the first, of "{first.label}": {first.reason}.')
        return [point for point in found if point is not None]


def search(trying: Trying, starts: Sequence[Setting], trials: int, tick: Tick) -> list[Point]:
    """The Pareto front of each method after `trials` settings of it, found by Optuna; goes on where it was stopped.

    The knobs that a start names stay as they are, and so do its steps; the others are searched over the range that
    they declare. Every trial of an interrupted search is either finished or done again from the same knobs.

    Raises:
        RequestError: a start leaves no knob to search; and whatever `Trying.points` raises.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for start in starts:
        _open(start)
    studies = [(start, _study(trying.folder, start)) for start in starts]
    while True:
        asked = [
            (start, study, study.ask()) for start, study in studies for _ in range(min(ROUND, trials - _told(study)))
        ]
        if not asked:
            break
        settings = [_tried(start, trial) for start, _, trial in asked]
        found = {point.setting.label: point for point in trying.points(settings, tick)}
        for (_, study, trial), setting in zip(asked, settings, strict=True):
            if (point := found.get(setting.label)) is None:
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            else:
                study.tell(trial, [float(score) for score in (point.positive, point.negative, point.quality)])
    best = [_named(start, trial.params) for start, study in studies for trial in study.best_trials]
    return trying.points(best, tick)


def grid(start: Setting, knob: str, count: int, bounds: tuple[float, float] | None = None) -> list[Setting]:
    """A setting at `count` strengths, equal steps apart: from one bound to the other, or without bounds from a step
    above the knob's low end, where most methods are off, to its high end.

    Raises:
        RequestError: fewer than two strengths, or a knob that is no number.
        KnobError: a bound that the knob does not allow.
    """
    known = {entry.name: entry for entry in _knobs(start)}
    if knob not in known or known[knob].low is None:
        raise RequestError(
            f'"{start.label}" has no number called {knob} to sweep; it has {", ".join(known) or "none"}.'
        )
    if count < 2:
        raise RequestError(f"a frontier needs at least 2 strengths, got {count}.")
    low, high = bounds or finite_range(known[knob])
    step = (high - low) / (count - 1 if bounds else count)
    values = [round(high - step * index, 6) for index in reversed(range(count))]
    for value in values:
        known[knob].check(value)
    return [
        start.model_copy(
            update={
                "label": f"{start.label} {knob}={value:g}",
                "knobs": {**start.knobs, knob: value},
                "strength": value,
            }
        )
        for value in values
    ]


def nearest_frontier(points: Sequence[Point], count: int) -> list[Point]:
    """The `count` points closest to the frontier of positive against negative, by strength.

    A point's distance is how much both scores would have to rise until no other point beats it in both; of the points
    on the frontier itself, those spread most evenly over the negative score go first.
    """
    distances = {id(point): _distance(point, points) for point in points}
    on = sorted((point for point in points if distances[id(point)] == 0), key=lambda point: point.negative)
    off = sorted((point for point in points if distances[id(point)] > 0), key=lambda point: distances[id(point)])
    if len(on) > count:
        on = [on[round(index * (len(on) - 1) / max(1, count - 1))] for index in range(count)]
    return sorted([*on, *off][:count], key=lambda point: point.setting.strength or 0.0)


def keeping(points: Sequence[Point], kept: float) -> list[Point]:
    """The one or two of a curve's points that stand for it where its positive score is `kept`; none where it is not.

    The report mixes the same ones (`vsf.bench.stats.tradeoff.match`), so that more images can be drawn just where
    methods are compared.
    """
    candidates = [tradeoff.Point(point.setting.label, point.positive, point.negative) for point in points]
    mixture = tradeoff.match(candidates, kept)
    return [point for point in points if mixture is not None and point.setting.label in mixture.labels]


def freeze(file: Path, points: Sequence[Point]) -> None:
    """Write the settings of these points as a plan that `vsf bench run` takes. Raises RequestError."""
    journal.write_json(file, Plan(settings=tuple(point.setting for point in points)))


def _tried(start: Setting, trial: optuna.Trial) -> Setting:
    """The start with a value for every knob that it leaves open. Raises RequestError where there is none."""
    return _named(start, {knob.name: suggest(trial, knob) for knob in _open(start)})


def _open(start: Setting) -> list[guidance.Knob]:
    """The knobs that a start does not name. Raises RequestError where it names them all."""
    if not (searched := [knob for knob in _knobs(start) if knob.name not in start.knobs]):
        raise RequestError(f'the setting "{start.label}" leaves no knob to search.')
    return searched


def _told(study: optuna.Study) -> int:
    """How many trials are finished."""
    import optuna

    states = [optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED]
    return len(study.get_trials(deepcopy=False, states=states))


def suggest(trial: optuna.Trial, knob: guidance.Knob) -> Any:
    """A value of a knob, for Optuna to learn from."""
    if knob.choices:
        return trial.suggest_categorical(knob.name, list(knob.choices))
    return trial.suggest_float(knob.name, *finite_range(knob))


def finite_range(knob: guidance.Knob) -> tuple[float, float]:
    """What a number is searched over; where there is no upper end, as far above the default as the low end is below."""
    assert knob.low is not None
    assert knob.high is not None
    default = float(knob.default)
    return knob.low, knob.high if math.isfinite(knob.high) else default + (default - knob.low)


def _study(folder: Path, start: Setting) -> optuna.Study:
    """The study of one start in the folder's SQLite file; what was running when it was stopped is queued again."""
    import optuna

    folder.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        study_name=start.label,
        storage=f"sqlite:///{folder / STUDIES}",
        directions=["maximize"] * 3,
        load_if_exists=True,
    )
    study.sampler = optuna.samplers.TPESampler(seed=len(study.trials), constant_liar=True)  # goes on, never over again
    for trial in study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.RUNNING]):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        study.enqueue_trial(trial.params)
    return study


def _knobs(setting: Setting) -> list[guidance.Knob]:
    return guidance.knobs(type(setting.guidance()))


def _named(start: Setting, knobs: Mapping[str, Any]) -> Setting:
    """The start with these knobs; rounded, so that its label names it."""
    exact = {name: round(value, 4) if isinstance(value, float) else value for name, value in knobs.items()}
    told = " ".join(
        f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}" for name, value in exact.items()
    )
    return start.model_copy(update={"label": f"{start.label} {told}", "knobs": {**start.knobs, **exact}})


def _point(setting: Setting, scores: Sequence[Score]) -> Point | None:
    """Average the images that have a score; None where none has."""
    table = {(score.pair, score.seed): score for score in scores}
    means = {metric: exact_mean(column(table, metric)) for metric in METRICS}
    known = {metric: mean for metric, mean in means.items() if mean is not None}
    return Point(setting, **known) if len(known) == len(METRICS) else None


def _distance(point: Point, points: Sequence[Point]) -> Fraction:
    return max(Fraction(), *(min(other.positive - point.positive, other.negative - point.negative) for other in points))


def _silent(_done: int, _total: int) -> None:
    """Take no notice of progress."""
