"""Draw prompts of the little world with a setting of the guidance and let the judge score every image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
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

    An image that the judge could not read is right in nothing. `named` tells whether the part that the prompt names
    is drawn, None when it names none.
    """

    setting: str
    split: str
    prompt: str
    negative: str
    seed: int
    object: bool
    part_gone: bool
    colour: bool
    background: bool
    named: bool | None
    quality: float
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


def share(rows: Sequence[Row], column: str) -> float:
    """The mean of a column over the rows that have it."""
    values = [float(value) for row in rows if (value := asdict(row)[column]) is not None]
    return round(sum(values) / len(values), 4)


def _row(setting: Setting, pair: PromptPair, seed: int, reading: Reading) -> Row:
    verdict = answer(reading, Question(pair.object, pair.negative))
    things = reading.scene.things if reading.scene is not None else ()
    named = set(pair.prompt.split()) & set(PARTS)
    return Row(
        setting=setting.name,
        split=pair.split,
        prompt=pair.prompt,
        negative=pair.negative,
        seed=seed,
        object=bool(verdict.positive),
        part_gone=bool(verdict.negative),
        colour=any(thing.object == pair.object and thing.colour == pair.colour for thing in things),
        background=reading.scene is not None and reading.scene.background == pair.background,
        named=any(named <= thing.parts for thing in things) if named else None,
        quality=round(verdict.quality or 0.0, 4),
        saw=words(reading, pair.negative),
    )
