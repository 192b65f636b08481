"""Search the settings of value sign flip that give away least, on dev prompts only.

A *form* is everything about a setting but its scale; the scale says how far it goes along the form's frontier between
positive and negative score. The scores measured at some scales are smoothed by isotonic regression (more scale never
brings an object back nor a part), with no guidance as scale 0, and read between them by linear interpolation. So each
estimate rests on all images of its form, not on those of one scale. The search has three rounds:

1. Every form at every coarse scale, on COARSE prompts.
2. For each bound the PROMISING forms, around the largest scale that keeps the bound, on FINE prompts.
3. For each bound the FINALISTS among the forms, at the scale that now seems the largest, on FINAL prompts.

To keep a bound is to exceed it by a margin, SURE standard errors of the difference between a dev and a test sample,
with a quality within QUALITY_LOSS of no guidance: a setting that only just holds on dev prompts misses on test prompts
every other time, and nineteen of twenty are to hold. Chosen is, among the finalists, the form that seems to remove
most, at the scale where it has come to the margin. Where no form leaves the margin the bound itself has to do; where
not even no guidance keeps it the scale is the smallest: the figure tells how far off the model is.

One setting for each bound goes on to the test prompts: to choose there again would be to tune on them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, product
from typing import Any, Literal

import vsf
from frontier import Point, furthest
from sampling import Row, Setting, share

NONE = Setting("none", vsf.method("none"))
QUALITY_LOSS = 0.05
COARSE = 64  # dev prompts, like the next two
FINE = 128
FINAL = 384
PROMISING = 2
FINALISTS = 3
SURE = 1.64  # standard errors that one sample of twenty exceeds
SCALES = (1.0, 2.0, 4.0, 8.0)
AROUND = (0.8, 1.0, 1.25)
FINEST = 0.1  # the smallest scale
LARGEST = 10.0  # the largest scale
EVERYWHERE = vsf.Schedule()

Scores = Mapping[str, float | None]
Draw = Callable[[Sequence[Setting], int], Mapping[Setting, Sequence[Row]]]
"""Returns the rows of settings on the first so many dev prompts."""


@dataclass(frozen=True)
class Form:
    """A family of settings that differ in their scale alone."""

    orthogonal: bool = True
    special_tokens: Literal["keep", "strip"] = "strip"
    offset: float = 0.0
    schedule: vsf.Schedule = EVERYWHERE
    in_context: bool = False

    def at(self, scale: float) -> Setting:
        """Make the setting of this scale, named after its fields."""
        when = self.schedule
        name_parts = [f"vsf scale={scale:g} offset={self.offset:g} tokens={self.special_tokens}"]
        if self.orthogonal:
            name_parts.append("orthogonal")
        if (when.start, when.end) != (0, 1):
            name_parts.append(f"steps={when.start:g}–{when.end:g}")
        if when.layers is not None:
            name_parts.append(f"layers={'+'.join(map(str, when.layers))}")
        if self.in_context:
            name_parts.append("in context")
        method = vsf.ValueSignFlip(
            scale=scale, offset=self.offset, orthogonal=self.orthogonal, special_tokens=self.special_tokens
        )
        return Setting(" ".join(name_parts), method, schedule=when, in_context=self.in_context)


WINDOW = vsf.Schedule(start=0.0, end=0.75, layers="0-1")
LATE = vsf.Schedule(start=0.125, end=0.75, layers="0-1")
FORMS = (
    Form(),
    Form(special_tokens="keep"),
    Form(orthogonal=False, special_tokens="keep"),
    Form(special_tokens="keep", schedule=WINDOW),
    Form(special_tokens="keep", in_context=True),
    Form(special_tokens="keep", schedule=WINDOW, in_context=True),
    Form(special_tokens="keep", schedule=LATE, in_context=True),
    Form(orthogonal=False, special_tokens="keep", schedule=WINDOW, in_context=True),
)


@dataclass(frozen=True)
class Trial:
    """The scores of a setting on a number of dev prompts."""

    setting: Setting
    prompts: int
    scores: Scores


class Search:
    """The three rounds; `trials` has each form's scores by scale, on the most prompts that it was drawn for."""

    def __init__(self, draw: Draw, forms: Sequence[Form], test_images: int) -> None:
        self.draw = draw
        self.test_images = test_images
        self.trials: dict[Form, dict[float, Trial]] = {form: {} for form in forms}
        self.unguided: Scores = {}

    def run(self, bounds: Sequence[float]) -> list[Setting]:
        """Choose a setting for each bound."""
        self._try(product(self.trials, SCALES), COARSE)
        promising = []
        for bound in bounds:
            for form, scale in self._furthest(bound)[:PROMISING]:
                for factor in AROUND:
                    promising.append((form, rounded(scale * factor)))
        self._try(promising, FINE)
        finalists = {bound: self._furthest(bound)[:FINALISTS] for bound in bounds}
        self._try(chain.from_iterable(finalists.values()), FINAL)
        chosen = []
        for bound in bounds:
            forms = [form for form, _ in finalists[bound]]
            chosen.append(self._best(bound, forms))
        return chosen

    def table(self) -> list[dict[str, Any]]:
        """Return a row with the scores of every setting, no guidance first."""
        rows: list[dict[str, Any]] = []
        for trials_of_form in self.trials.values():
            for trial in trials_of_form.values():
                rows.append({"setting": trial.setting.name, "prompts": trial.prompts, **trial.scores})
        # No guidance was drawn in every round, so on as many prompts as any other setting.
        most_prompts = max(row["prompts"] for row in rows)
        return [{"setting": NONE.name, "prompts": most_prompts, **self.unguided}, *rows]

    def _try(self, forms_and_scales: Iterable[tuple[Form, float]], prompts: int) -> None:
        distinct = list(dict.fromkeys(forms_and_scales))  # two bounds may have the same finalist
        settings = [form.at(scale) for form, scale in distinct]
        rows = self.draw([NONE, *settings], prompts)
        self.unguided = scored(rows[NONE])
        for (form, scale), setting in zip(distinct, settings, strict=True):
            self.trials[form][scale] = Trial(setting, len(rows[setting]), scored(rows[setting]))

    def _best(self, bound: float, forms: Collection[Form]) -> Setting:
        """Choose the setting that removes most within a bound, by everything that was measured."""
        ranked = self._furthest(bound)
        return next(form.at(scale) for form, scale in ranked if form in forms)

    def _furthest(self, bound: float) -> list[tuple[Form, float]]:
        """Return the forms with the largest scale at which each keeps a bound, the one that removes most first."""
        floor = (self.unguided["quality"] or 0.0) - QUALITY_LOSS
        for least in (bound + margin(bound, FINAL, self.test_images), bound):
            ends = {form: furthest(self._points(form), least, floor) for form in self.trials}
            if any(scale > 0 for scale, _ in ends.values()):
                break  # else no form leaves the margin, and the bound itself has to do
        best_first = sorted(ends.items(), key=lambda end: end[1][1], reverse=True)
        return [(form, rounded(scale)) for form, (scale, _) in best_first]

    def _points(self, form: Form) -> list[Point]:
        """Return the measurements of a form; an unreadable image counts as having kept and removed nothing."""
        trials = self.trials[form]
        measured = {0.0: (max(trial.prompts for trial in trials.values()), self.unguided)}
        for scale, trial in trials.items():
            measured[scale] = trial.prompts, trial.scores
        points = []
        for scale, (images, scores) in measured.items():
            positive = scores["positive"] or 0.0
            negative = scores["negative"] or 0.0
            points.append(Point(scale, images, positive, negative, scores["quality"] or 0.0))
        return points


def rounded(scale: float) -> float:
    """Round a scale to two digits, within the range that makes sense to try."""
    return min(max(float(f"{scale:.2g}"), FINEST), LARGEST)


def margin(bound: float, dev_images: int, test_images: int) -> float:
    """Return SURE standard errors of the difference between the shares in two samples if the true share is `bound`."""
    return SURE * math.sqrt(bound * (1 - bound) * (1 / dev_images + 1 / test_images))


def scored(rows: Sequence[Row]) -> dict[str, float | None]:
    """Return the three scores of a setting, and how often colour and background are right."""
    columns = {"positive": "object", "negative": "part_gone", "quality": "quality"}
    scores = {name: share(rows, column) for name, column in columns.items()}
    return {**scores, "colour": share(rows, "colour"), "background": share(rows, "background")}


def admissible(scores: Scores, unguided: Scores, positive: float) -> bool:
    """Return True if a setting keeps the positive score and the quality."""
    score = scores["positive"]
    quality = scores["quality"]
    reference = unguided["quality"]
    if score is None or quality is None or reference is None:
        return False
    return score >= positive and quality >= reference - QUALITY_LOSS
