"""Draw prompts of the little world with a setting of the guidance and let the judge score every image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch

import vsf
from vsf.judges.base import Question
from vsf.judges.scenes import Reading, answer, look, words
from vsf.tiny.scenes import PARTS, PromptPair

BATCH = 32
Tick = Callable[[int], None]


@dataclass(frozen=True)
class Setting:
    """A guidance method with its knobs, and the number of steps."""

    name: str
    method: vsf.Guidance
    steps: int = 8


@dataclass(frozen=True)
class Row:
    """One judged image.

    Every verdict on an image that the judge could not read is None. `named` tells whether the part that the prompt
    names is drawn, None also when it names none.
    """

    setting: str
    split: str
    prompt: str
    negative: str
    seed: int
    object: bool | None
    part_gone: bool | None
    colour: bool | None
    background: bool | None
    named: bool | None
    quality: float | None
    saw: str


def sample(pipe: Any, setting: Setting, pairs: Sequence[PromptPair], seeds: Sequence[int], tick: Tick) -> list[Row]:
    """Draw and judge each prompt from each seed; every setting starts from the same noise."""
    rows: list[Row] = []
    tasks = [(pair, index, seed) for seed in seeds for index, pair in enumerate(pairs)]
    for start in range(0, len(tasks), BATCH):
        part = tasks[start : start + BATCH]
        generators = [torch.Generator().manual_seed(1_000_003 * seed + index) for _, index, seed in part]
        with vsf.guide(pipe, [pair.negative for pair, _, _ in part], method=setting.method):
            images = pipe(
                [pair.prompt for pair, _, _ in part],
                num_inference_steps=setting.steps,
                guidance_scale=0.0,
                generator=generators,
            ).images
        rows += [
            _row(setting, pair, seed, reading) for (pair, _, seed), reading in zip(part, look(images), strict=True)
        ]
        tick(len(part))
    return rows


def share(rows: Sequence[Row], column: str) -> float | None:
    """The mean of a column over the rows that have it; None when none has."""
    values = [float(value) for row in rows if (value := asdict(row)[column]) is not None]
    return round(sum(values) / len(values), 4) if values else None


def _row(setting: Setting, pair: PromptPair, seed: int, reading: Reading) -> Row:
    row = partial(Row, setting.name, pair.split, pair.prompt, pair.negative, seed, saw=words(reading, pair.negative))
    if reading.scene is None or reading.quality is None:
        return row(object=None, part_gone=None, colour=None, background=None, named=None, quality=None)
    verdict = answer(reading, Question(pair.object, pair.negative))
    things = reading.scene.things
    named = set(pair.prompt.split()) & set(PARTS)
    return row(
        object=verdict.positive,
        part_gone=verdict.negative,
        colour=any(thing.object == pair.object and thing.colour == pair.colour for thing in things),
        background=reading.scene.background == pair.background,
        named=any(named <= thing.parts for thing in things) if named else None,
        quality=round(reading.quality, 4),
    )
