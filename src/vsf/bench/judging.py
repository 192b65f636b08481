"""How right the judge of the little world is on rendered scenes, clean and damaged."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from vsf.bench.damage import DAMAGES
from vsf.bench.figure import Figure
from vsf.judges.scenes import Reading, look
from vsf.tiny.renderer import render
from vsf.tiny.scenes import OBJECTS, PARTS, Scene, sample_scene

BATCH = 32
_MILD_PARTS = 0.95
Tick = Callable[[int], None]  # told how many more images were judged


def clean_figures(count: int, seed: int, tick: Tick) -> tuple[list[Figure], list[dict[str, Any]]]:
    """Accuracy on `count` scenes with held-out combinations, and a row for each kind of answer and part."""
    scenes = _scenes(count, seed)
    readings = _read(scenes, [render(scene) for scene in scenes], tick)
    answers: dict[str, list[bool]] = {name: [] for name in ("object", "colour", "background", *PARTS)}
    for scene, reading in zip(scenes, readings, strict=True):
        for name, right in _answers(scene, reading):
            answers[name].append(right)
    share = {name: _mean(right) for name, right in answers.items() if right}
    rows = [{"answer": name, "right": right, "of": len(answers[name])} for name, right in share.items()]
    worst = min((part for part in PARTS if part in share), key=lambda part: share[part])
    figures = [
        Figure("judge, rendered held-out images: object", share["object"], low=0.995),
        Figure("judge, rendered held-out images: worst part", share[worst], low=0.985, note=worst),
        Figure("judge, rendered held-out images: colour", share["colour"], low=0.99),
        Figure("judge, rendered held-out images: background", share["background"], low=0.99),
    ]
    return figures, rows


def damage_figures(count: int, seed: int, tick: Tick) -> tuple[list[Figure], list[dict[str, Any]]]:
    """Mean quality and right part verdicts over `count` scenes at each level of each damage, level 0 included."""
    scenes = [scene for scene in _scenes(2 * count, seed) if scene.things[0].body][:count]
    images = [render(scene) for scene in scenes]
    figures, rows = [], []
    for name, damage in DAMAGES.items():
        quality = []
        for level in (0.0, *damage.levels):
            hurt = [
                damage.apply(image, scene, level, index) if level else image
                for index, (image, scene) in enumerate(zip(images, scenes, strict=True))
            ]
            readings = _read(scenes, hurt, tick)
            quality.append(_mean([reading.quality or 0.0 for reading in readings]))
            answers = [_answers(scene, reading) for scene, reading in zip(scenes, readings, strict=True)]
            parts = _mean([right for told in answers for answer, right in told if answer in PARTS])
            rows.append({"damage": name, "level": level, "quality": quality[-1], "parts": parts})
            if level == damage.levels[0]:
                figures.append(Figure(f"judge, mild {name}: part verdicts", parts, low=_MILD_PARTS))
        drop = min(before - after for before, after in pairwise(quality))
        figures.append(Figure(f"judge, {name}: smallest fall of quality between levels", drop, low=0.0))
    return figures, rows


def _scenes(count: int, seed: int) -> list[Scene]:
    rng = random.Random(f"judge {seed}")
    return [sample_scene(rng, held_out=True) for _ in range(count)]


def _read(scenes: Sequence[Scene], images: Sequence[Any], tick: Tick) -> list[Reading]:
    readings: list[Reading] = []
    for start in range(0, len(scenes), BATCH):
        readings += look(images[start : start + BATCH])
        tick(min(BATCH, len(scenes) - start))
    return readings


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
