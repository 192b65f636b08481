"""Tune every method in every context with the same budget, and choose one operating point each on dev prompts.

A *cell* is a method in one of four contexts: plain; in a window of layers and steps; with the negative read as a part
of what the prompt is about; or both. So a gain that a context brings to every method is not credited to one of them.
Each cell has the same number of free knobs and is tuned by successive halving: all trials on a few prompts, the best of
them on more, the last on most. Trials are the points of one Halton sequence, the same for every cell, so they need no
state: a search that was stopped repeats its decisions from the rows that are there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

from pydantic import BaseModel, ConfigDict

from vsf.bench.plan import Plan, Setting
from vsf.bench.run import jsonl
from vsf.bench.run.draw import ProgressCallback
from vsf.bench.stats import tradeoff
from vsf.bench.sweep import FROZEN, Evaluator, Point, finite_range, freeze
from vsf.errors import RequestError
from vsf.knobs import knobs

RESULT = "factorial.json"
END = "end"
"""The free number that is no knob: the fraction of the run at which the method stops."""


@dataclass(frozen=True)
class Round:
    """Try so many settings of each cell on the first so many prompts."""

    trials: int
    prompts: int


ROUNDS = (Round(16, 100), Round(4, 400), Round(1, 1000))


@dataclass(frozen=True)
class Cell:
    """A method in a context.

    Attributes:
        start: The setting without its free numbers; its label names the cell.
        free: The lowest and highest value of each free number; empty for a setting that is tried as it is.
    """

    start: Setting
    free: Mapping[str, tuple[float, float]]

    def trials(self, count: int) -> list[Setting]:
        """Return the settings to try."""
        if not self.free:
            return [self.start]
        from scipy.stats.qmc import Halton

        sequence = Halton(len(self.free), scramble=False)
        sequence.fast_forward(1)  # the first point is the corner at 0
        settings = []
        for point in sequence.random(count):
            values = {}
            for (name, bounds), fraction in zip(self.free.items(), point, strict=True):
                values[name] = _between(*bounds, float(fraction))
            settings.append(self._with(values))
        return settings

    def _with(self, values: Mapping[str, float]) -> Setting:
        numbers = dict(values)
        schedule = dict(self.start.schedule)
        if END in numbers:
            schedule[END] = numbers.pop(END)
        knobs = " ".join(f"{name}={value:g}" for name, value in values.items())
        changes = {
            "label": f"{self.start.label} {knobs}",
            "knobs": {**self.start.knobs, **numbers},
            "schedule": schedule,
            "strength": values.get("scale"),
        }
        return self.start.model_copy(update=changes)


@dataclass(frozen=True)
class Factorial:
    """The cells to tune.

    Attributes:
        cells: Those that exist.
        left_out: The reason why each other one does not, by its name.
    """

    cells: Sequence[Cell]
    left_out: Mapping[str, str]

    def images(self, rounds: Sequence[Round], seeds: int) -> int:
        """Count the images of a search; survivors of a round keep theirs."""
        total = 0
        for cell in self.cells:
            earlier = 0
            for round_ in rounds:
                trials = round_.trials if cell.free else 1
                total += trials * (round_.prompts - earlier) * seeds
                earlier = round_.prompts
        return total


class Trial(BaseModel):
    """The scores of a setting in a round: exact means over its prompts, as floats.

    Attributes:
        round: Number of the round, from 1.
        cell: Name of the cell.
        label: Label of the setting.
        prompts: Number of prompts.
        success: Share of full successes.
        positive: Positive score.
        negative: Negative score.
        quality: Quality.
    """

    model_config = ConfigDict(frozen=True)

    round: int
    cell: str
    label: str
    prompts: int
    success: float
    positive: float
    negative: float
    quality: float


class Result(BaseModel):
    """What a search found.

    Attributes:
        trials: Every trial of every round.
        chosen: The operating point of each cell: the label of the setting with the best full success.
        hypervolume: The area that the trials of the first round reach in positive and negative score, by cell.
        left_out: The reason why each other cell does not exist, by its name.
    """

    model_config = ConfigDict(frozen=True)

    trials: list[Trial]
    chosen: dict[str, str]
    hypervolume: dict[str, float]
    left_out: dict[str, str]


def factorial(plan: Plan) -> Factorial:
    """Cross the settings of a plan with the contexts.

    Raises:
        RequestError: The free numbers differ in number between methods, or one of them is no number of its method.
    """
    cells = []
    left_out = {}
    for setting in plan.settings:
        free = _free(setting, plan)
        for context, fields in _contexts(plan).items():
            name = setting.label if context == "plain" else f"{setting.label}, {context}"
            reason = _obstacle(setting, context)
            if reason:
                left_out[name] = reason
                continue
            schedule = {**setting.schedule, **fields["schedule"]}
            changes = {"label": name, "schedule": schedule, "within": fields["within"]}
            cells.append(Cell(setting.model_copy(update=changes), free))
    counts = {cell.start.label: len(cell.free) for cell in cells if cell.free}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise RequestError(f"every method has to have the same number of free knobs, but there are {listed}.")
    return Factorial(cells, left_out)


def search(factorial: Factorial, evaluator: Evaluator, rounds: Sequence[Round], progress: ProgressCallback) -> Result:
    """Tune every cell, and write `factorial.json` and, as a plan for the test prompts, `frozen.json`.

    Args:
        factorial: The cells.
        evaluator: Scores the settings.
        rounds: Trials and prompts of each round.
        progress: Called with the images of each round.

    Raises:
        RequestError: The suite is too small, the judge does not tell full success, or drawing or judging fails.
    """
    check_rounds(rounds, len(evaluator.task.pairs))
    alive = {cell.start.label: cell.trials(rounds[0].trials) for cell in factorial.cells}
    trials: list[Trial] = []
    areas: dict[str, float] = {}
    chosen: dict[str, Setting] = {}
    for number, round_ in enumerate(rounds, 1):
        everything = [setting for settings in alive.values() for setting in settings]
        # One call for all cells, so that the engine's workers are started once per round.
        point_of = {point.setting.label: point for point in evaluator.points(everything, progress, round_.prompts)}
        for cell, settings in alive.items():
            points = [point_of[setting.label] for setting in settings if setting.label in point_of]
            if not points:
                raise RequestError(f'not one image of "{cell}" could be scored.')
            for point in points:
                trials.append(_trial(number, cell, round_.prompts, point))
            if number == 1:
                areas[cell] = _area(points)
            ranked = sorted(points, key=_success, reverse=True)
            following = rounds[number].trials if number < len(rounds) else 1
            alive[cell] = [point.setting for point in ranked[:following]]
            chosen[cell] = ranked[0].setting
    result = Result(
        trials=trials,
        chosen={cell: setting.label for cell, setting in chosen.items()},
        hypervolume=areas,
        left_out=dict(factorial.left_out),
    )
    jsonl.write_json(evaluator.folder / RESULT, result)
    freeze(evaluator.folder / FROZEN, list(chosen.values()))
    return result


def read_rounds(text: str) -> tuple[Round, ...]:
    """Read rounds such as "16x100,4x400,1x1000": trials times prompts. Raises RequestError."""
    rounds = []
    for part in text.split(","):
        trials, cross, prompts = part.strip().partition("x")
        if not cross or not trials.isdecimal() or not prompts.isdecimal() or int(trials) < 1 or int(prompts) < 1:
            raise RequestError(f'--rounds are trials times prompts such as 16x100,4x400,1x1000, got "{text}".')
        rounds.append(Round(int(trials), int(prompts)))
    return tuple(rounds)


def check_rounds(rounds: Sequence[Round], pairs: int) -> None:
    """Raise RequestError if rounds do not narrow down, or ask for more prompts than there are."""
    for before, after in pairwise(rounds):
        if after.trials > before.trials or after.prompts < before.prompts:
            raise RequestError("each round has to try no more settings than the one before, on no fewer prompts.")
    if rounds[-1].prompts > pairs:
        raise RequestError(f"the last round asks for {rounds[-1].prompts} prompts, and the suite has {pairs}.")


def _contexts(plan: Plan) -> dict[str, dict[str, Any]]:
    window = dict(plan.window)
    return {
        "plain": {"schedule": {}, "within": ""},
        "window": {"schedule": window, "within": ""},
        "context": {"schedule": {}, "within": "subject"},
        "both": {"schedule": window, "within": "subject"},
    }


def _obstacle(setting: Setting, context: str) -> str:
    """Say why a method does not exist in a context; "" if it does."""
    method = setting.guidance()
    if context == "plain":
        return ""
    if not method.guided_rows or setting.negative == "pipeline":
        return "it has no guidance in the attention"
    if method.model_calls > 1:
        return "it acts on the output of the model, where there are neither layers nor words"
    return ""


def _free(setting: Setting, plan: Plan) -> dict[str, tuple[float, float]]:
    """Return the free numbers of a setting: those of the plan, or else its scale. Raises RequestError."""
    declared = {knob.name: knob for knob in knobs(type(setting.guidance())) if knob.low is not None}
    if setting.label not in plan.free:
        scale = declared.get("scale")
        return {} if scale is None or "scale" in setting.knobs else {"scale": finite_range(scale)}
    free = plan.free[setting.label]
    for name, bounds in free.items():
        if name != END and name not in declared:
            raise RequestError(
                f'"{setting.label}" has no number called {name}; it has {", ".join(declared) or "none"}.'
            )
        for bound in bounds:
            if name != END:
                declared[name].check(bound)
    return dict(free)


def _between(low: float, high: float, fraction: float) -> float:
    """Return a number of three digits between two; those above 0 are spaced by their ratio, as strengths act."""
    value = low * (high / low) ** fraction if low > 0 else low + (high - low) * fraction
    return float(f"{value:.3g}")


def _success(point: Point) -> Fraction:
    if point.success is None:
        raise RequestError("the judge does not tell full success, by which operating points are chosen; ask another.")
    return point.success


def _area(points: Sequence[Point]) -> float:
    candidates = []
    for point in points:
        candidates.append(tradeoff.Point(point.setting.label, point.positive, point.negative))
    return float(tradeoff.hypervolume(candidates))


def _trial(number: int, cell: str, prompts: int, point: Point) -> Trial:
    return Trial(
        round=number,
        cell=cell,
        label=point.setting.label,
        prompts=prompts,
        success=float(_success(point)),
        positive=float(point.positive),
        negative=float(point.negative),
        quality=float(point.quality),
    )
