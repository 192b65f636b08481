"""Measure the accuracy of the scenes judge on rendered images, clean and corrupted."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any

from corruptions import CORRUPTIONS
from crew import Crew, Rows, Tick
from figure import Figure
from vsf.judges.scenes.judge import Reading, look
from vsf.tiny.renderer import render
from vsf.tiny.scenes import OBJECTS, PARTS, Scene, sample_scene

BATCH = 32
LEVELS = sum(1 + len(damage.levels) for damage in CORRUPTIONS.values())
_MILD_PARTS = 0.95
_ENOUGH = 10  # readable images; fewer do not tell how quality falls


@dataclass(frozen=True)
class Examination:
    """The job of drawing, corrupting and judging a batch of scenes; without a `damage` they stay clean."""

    seed: int
    batch: int
    count: int
    damage: str = ""
    level: float = 0.0

    @property
    def size(self) -> int:
        """Number of images."""
        return self.count

    def run(self) -> Rows:
        """Return the quality of each image, None if unreadable, and whether each answer about it was right."""
        rng = random.Random(f"judge {self.seed} {self.batch}")
        scenes = [_scene(rng, body=bool(self.damage)) for _ in range(self.count)]
        images = [render(scene) for scene in scenes]
        if self.level:
            corrupt = CORRUPTIONS[self.damage].apply
            first_seed = self.batch * BATCH
            for index, scene in enumerate(scenes):
                images[index] = corrupt(images[index], scene, self.level, first_seed + index)
        rows = []
        for scene, reading in zip(scenes, look(images), strict=True):
            rows.append({"quality": reading.quality, "answers": _answers(scene, reading)})
        return rows


def clean_figures(crew: Crew, count: int, seed: int, tick: Tick) -> tuple[list[Figure], Rows]:
    """Measure accuracy on `count` scenes with held-out combinations; returns figures, and a row per kind of answer.

    An image that the judge cannot read counts as wrong here, because it is the judge that is judged.
    """
    answers: dict[str, list[bool]] = {name: [] for name in ("object", "colour", "background", *PARTS)}
    for row in _examine(crew, count, seed, tick):
        for name, right in row["answers"]:
            answers[name].append(right)
    means = {name: _mean(right) for name, right in answers.items() if right}
    rows = [{"answer": name, "right": right, "of": len(answers[name])} for name, right in means.items()]
    worst = min((part for part in PARTS if part in means), key=lambda part: means[part])
    figures = [
        Figure("judge, rendered held-out images: object", means["object"], low=0.995),
        Figure("judge, rendered held-out images: worst part", means[worst], low=0.985, note=worst),
        Figure("judge, rendered held-out images: colour", means["colour"], low=0.99),
        Figure("judge, rendered held-out images: background", means["background"], low=0.99),
    ]
    return figures, rows


def damage_figures(crew: Crew, count: int, seed: int, tick: Tick) -> tuple[list[Figure], Rows]:
    """Measure how part verdicts hold and quality falls over `count` scenes; returns figures, and a row per level.

    A row has the quality of every image, None if unreadable, and the share of right part verdicts on the readable ones.
    A part that was erased still counts as present.
    """
    figures = []
    rows = []
    for name, damage in CORRUPTIONS.items():
        levels = [_level(crew, count, seed, (name, level), tick) for level in (0.0, *damage.levels)]
        rows += levels
        figures.append(Figure(f"judge, mild {name}: part verdicts", levels[1]["parts"], low=_MILD_PARTS))
        falls = [fall(before["quality"], after["quality"]) for before, after in pairwise(levels)]
        known = [fall for fall in falls if fall is not None]
        lost = len(falls) - len(known)
        note = f"at {lost} of {len(falls)} levels too few images can be read" if lost else ""
        smallest = min(known, default=None)
        figures.append(Figure(f"judge, {name}: smallest fall of quality between levels", smallest, low=0.0, note=note))
    return figures, rows


def fall(before: Sequence[float | None], after: Sequence[float | None]) -> float | None:
    """Return the mean fall of quality over the images that are readable at both levels; None if they are too few.

    It is paired, because the images that stay readable under heavy corruption are those that were easy to read before.
    """
    falls = [b - a for b, a in zip(before, after, strict=True) if b is not None and a is not None]
    return _mean(falls) if len(falls) >= _ENOUGH else None


def _level(crew: Crew, count: int, seed: int, damage: tuple[str, float], tick: Tick) -> dict[str, Any]:
    rows = _examine(crew, count, seed, tick, damage)
    read = [row for row in rows if row["quality"] is not None]
    parts = [right for row in read for answer, right in row["answers"] if answer in PARTS]
    quality = [None if row["quality"] is None else round(row["quality"], 3) for row in rows]
    share = _mean(parts) if parts else None
    return {"damage": damage[0], "level": damage[1], "parts": share, "of": len(parts), "quality": quality}


def _examine(crew: Crew, count: int, seed: int, tick: Tick, damage: tuple[str, float] = ("", 0.0)) -> Rows:
    firsts = range(0, count, BATCH)
    jobs = [Examination(seed, first // BATCH, min(BATCH, count - first), *damage) for first in firsts]
    return list(chain.from_iterable(crew.perform(jobs, tick)))


def _scene(rng: random.Random, *, body: bool) -> Scene:
    """Sample a scene with held-out combinations; `body` asks for a whole thing, as half a loose part means nothing."""
    while True:
        scene = sample_scene(rng, held_out=True)
        if scene.things[0].body or not body:
            return scene


def _answers(scene: Scene, reading: Reading) -> list[tuple[str, bool]]:
    """List what the judge can be right or wrong about in a scene, and whether it was right; never if it was unreadable.

    A loose part has no colour, and may belong to any object that has it.
    """
    seen = reading.scene
    answers = [("background", seen is not None and seen.background == scene.background)]
    for index, thing in enumerate(scene.things):
        read = seen.things[index] if seen is not None and len(seen.things) == len(scene.things) else None
        if not thing.body:
            for part in thing.parts:
                answers.append((part, read is not None and not read.body and part in read.parts))
            continue
        answers.append(("object", read is not None and read.body and read.object == thing.object))
        answers.append(("colour", read is not None and read.colour == thing.colour))
        for part in OBJECTS[thing.object].parts:
            answers.append((part, read is not None and (part in read.parts) == (part in thing.parts)))
    return answers


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 4)
