"""How right the judge of the little world is on rendered scenes, clean and damaged."""

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
_ENOUGH = 10  # images; fewer that can be read do not tell how quality falls


@dataclass(frozen=True)
class Examination:
    """The job of drawing a batch of scenes, hurting them and judging them; without a damage they stay clean."""

    seed: int
    batch: int
    count: int
    damage: str = ""
    level: float = 0.0

    @property
    def size(self) -> int:
        """How many images."""
        return self.count

    def run(self) -> Rows:
        """For each image the quality, None when it could not be read, and for each question whether it was right."""
        rng = random.Random(f"judge {self.seed} {self.batch}")
        scenes = [_scene(rng, body=bool(self.damage)) for _ in range(self.count)]
        images = [render(scene) for scene in scenes]
        if self.level:
            hurt, first = CORRUPTIONS[self.damage].apply, self.batch * BATCH
            pairs = enumerate(zip(images, scenes, strict=True), first)
            images = [hurt(image, scene, self.level, index) for index, (image, scene) in pairs]
        readings = zip(scenes, look(images), strict=True)
        return [{"quality": reading.quality, "answers": _answers(scene, reading)} for scene, reading in readings]


def clean_figures(crew: Crew, count: int, seed: int, tick: Tick) -> tuple[list[Figure], Rows]:
    """Accuracy on `count` scenes with held-out combinations, and a row for each kind of answer and part.

    An image that the judge cannot read counts as wrong here, since it is the judge that is judged.
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
    """How part verdicts hold and quality falls over `count` scenes, and a row for each level of each damage.

    A row has the quality of every image, None where it cannot be read, and the share of right part verdicts on those
    that can be. A part that was erased still counts as there.
    """
    figures, rows = [], []
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
    """The mean fall of quality over the images that can be read at both levels; None when they are too few.

    Paired, because the images that can still be read after a heavy blow are those that were easy to read before.
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
    """A scene with held-out combinations, of a whole thing where `body`, since a loose part cannot be half erased."""
    while True:
        scene = sample_scene(rng, held_out=True)
        if scene.things[0].body or not body:
            return scene


def _answers(scene: Scene, reading: Reading) -> list[tuple[str, bool]]:
    """What the judge was asked about a scene, and whether it was right; all wrong when it could not read it.

    A loose part has no colour, and belongs to any object that has it.
    """
    seen = reading.scene
    told = [("background", seen is not None and seen.background == scene.background)]
    for index, thing in enumerate(scene.things):
        other = seen.things[index] if seen is not None and len(seen.things) == len(scene.things) else None
        if not thing.body:
            told += [(part, other is not None and not other.body and part in other.parts) for part in thing.parts]
            continue
        told.append(("object", other is not None and other.body and other.object == thing.object))
        told.append(("colour", other is not None and other.colour == thing.colour))
        known = OBJECTS[thing.object].parts
        told += [(part, other is not None and (part in other.parts) == (part in thing.parts)) for part in known]
    return told


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 4)
