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
        images = list(map(render, scenes))
        if self.level:
            corrupt = CORRUPTIONS[self.damage].apply
            # The seed of an image is the same at every level, so that a higher one damages the same places and more.
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
    means = {}
    rows = []
    for name, are_right in answers.items():
        if are_right:  # few scenes may lack a part
            means[name] = _mean(are_right)
            rows.append({"answer": name, "right": means[name], "of": len(are_right)})
    asked_parts = [part for part in PARTS if part in means]
    worst = min(asked_parts, key=means.__getitem__)
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
        # Level 0 is undamaged, so the mildest damage is level 1.
        figures.append(Figure(f"judge, mild {name}: part verdicts", levels[1]["parts"], low=_MILD_PARTS))
        falls = []
        lost = 0
        for before, after in pairwise(levels):
            mean_fall = fall(before["quality"], after["quality"])
            if mean_fall is None:
                lost += 1
            else:
                falls.append(mean_fall)
        note = f"at {lost} of {lost + len(falls)} levels too few images can be read" if lost else ""
        smallest = min(falls, default=None)
        figures.append(Figure(f"judge, {name}: smallest fall of quality between levels", smallest, low=0.0, note=note))
    return figures, rows


def fall(before: Sequence[float | None], after: Sequence[float | None]) -> float | None:
    """Return the mean fall of quality over the images that are readable at both levels; None if they are too few.

    It is paired, because the images that stay readable under heavy corruption are those that were easy to read before.
    """
    falls = []
    for quality_before, quality_after in zip(before, after, strict=True):
        if quality_before is not None and quality_after is not None:
            falls.append(quality_before - quality_after)
    return _mean(falls) if len(falls) >= _ENOUGH else None


def _level(crew: Crew, count: int, seed: int, damage: tuple[str, float], tick: Tick) -> dict[str, Any]:
    rows = _examine(crew, count, seed, tick, damage)
    quality: list[float | None] = []
    parts = []
    for row in rows:
        if row["quality"] is None:
            quality.append(None)
            continue
        quality.append(round(row["quality"], 3))
        for answer, is_right in row["answers"]:
            if answer in PARTS:
                parts.append(is_right)
    share = _mean(parts) if parts else None
    return {"damage": damage[0], "level": damage[1], "parts": share, "of": len(parts), "quality": quality}


def _examine(crew: Crew, count: int, seed: int, tick: Tick, damage: tuple[str, float] = ("", 0.0)) -> Rows:
    jobs = []
    for first in range(0, count, BATCH):
        jobs.append(Examination(seed, first // BATCH, min(BATCH, count - first), *damage))
    return list(chain.from_iterable(crew.perform(jobs, tick)))


def _scene(rng: random.Random, *, body: bool) -> Scene:
    """Sample a scene with held-out combinations; `body` asks for a whole thing, as half a loose part means nothing."""
    while True:
        scene = sample_scene(rng, held_out=True)
        if scene.things[0].body or not body:
            return scene


def _answers(scene: Scene, reading: Reading) -> list[tuple[str, bool]]:
    """List the facts about a scene and whether the judge got each right; none of them if the image was unreadable.

    A loose part has no colour, and may belong to any object that has it.
    """
    read_scene = reading.scene
    answers = [("background", read_scene is not None and read_scene.background == scene.background)]
    for index, thing in enumerate(scene.things):
        read = None
        if read_scene is not None and len(read_scene.things) == len(scene.things):
            read = read_scene.things[index]
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
