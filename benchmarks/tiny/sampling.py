"""Draw prompts of synthetic scenes with a setting of the guidance, and let the judge score every image."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

import vsf
from crew import Crew, Rows, Tick
from vsf import tiny
from vsf.judges.base import Question
from vsf.judges.scenes.judge import Reading, answer, look, words
from vsf.text.context import belonging
from vsf.tiny.collapse_padding import collapse_padding
from vsf.tiny.scenes import PARTS, PromptPair, prompt_pairs

if TYPE_CHECKING:
    from PIL.Image import Image

BATCH = 16  # of 1, 8, 16 and 32 the fastest on one core, by a tenth: 280 text rows leave little to share
TELLING = 2 / 3  # share of prompts that name another part than the unwanted one
EVERY_PAIR = 5000  # more than there are
Split = Literal["dev", "test"]


@dataclass(frozen=True)
class Setting:
    """A guidance method with its knobs, when and where it acts, the number of steps, and the pipeline's own guidance.

    `in_context`: the negative is read as a part of the prompt's subject (`vsf.text.context.belonging`). Under
    `host_negative` the negative prompt goes to the pipeline's classifier-free guidance instead of the method.
    """

    name: str
    method: vsf.Guidance
    steps: int = 8
    schedule: vsf.Schedule = field(default_factory=vsf.Schedule)
    guidance_scale: float = 0.0
    host_negative: bool = False
    in_context: bool = False


@dataclass(frozen=True)
class Shot:
    """One image to draw: its prompt, its negative prompt and the seed of its noise."""

    pair: PromptPair
    noise: int


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
    noise: int
    object: bool | None
    part_gone: bool | None
    colour: bool | None
    background: bool | None
    named: bool | None
    quality: float | None
    saw: str


@dataclass(frozen=True)
class Drawing:
    """The job of drawing and judging a batch of shots with the model in a folder."""

    folder: Path
    setting: Setting
    shots: tuple[Shot, ...]

    @property
    def size(self) -> int:
        """Number of images."""
        return len(self.shots)

    def run(self) -> Rows:
        """Return a row for each shot."""
        readings = look(draw(pipeline(self.folder), self.setting, self.shots))
        rows = []
        for shot, reading in zip(self.shots, readings, strict=True):
            rows.append(asdict(_row(self.setting, shot, reading)))
        return rows


def sample(
    crew: Crew, folder: Path, settings: Sequence[Setting], shots: Sequence[Shot], tick: Tick
) -> dict[Setting, list[Row]]:
    """Draw and judge every shot with each of the settings."""
    jobs = []
    for setting in settings:
        for start in range(0, len(shots), BATCH):
            jobs.append(Drawing(folder, setting, tuple(shots[start : start + BATCH])))
    rows_of_setting: dict[Setting, list[Row]] = {setting: [] for setting in settings}
    for job, records in zip(jobs, crew.perform(jobs, tick), strict=True):
        for record in records:
            rows_of_setting[job.setting].append(Row(**record))
    return rows_of_setting


def draw(pipe: Any, setting: Setting, shots: Sequence[Shot]) -> list[Image]:
    """Draw a batch of shots; each starts from its own noise, so the batch changes their last bits only."""
    prompts = []
    negatives = []
    generators = []
    for shot in shots:
        prompts.append(shot.pair.prompt)
        negatives.append(shot.pair.negative)
        generators.append(torch.Generator().manual_seed(shot.noise))
    host_arguments: dict[str, Any] = {}
    if setting.host_negative:
        host_arguments["negative_prompt"] = negatives
        negatives = [""] * len(shots)
    within = list(map(belonging, prompts)) if setting.in_context else None
    with vsf.guide(pipe, negatives, within=within, method=setting.method, schedule=setting.schedule):
        images: list[Image] = pipe(
            prompts,
            num_inference_steps=setting.steps,
            guidance_scale=setting.guidance_scale,
            generator=generators,
            **host_arguments,
        ).images
    return images


@cache
def pipeline(folder: Path) -> Any:
    """Load the model in a folder, once per process, and silence the libraries' progress bars."""
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.disable_progress_bar()
    pipe = tiny.read(folder)
    collapse_padding(pipe)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def mixed_shots(count: int, seeds: Sequence[int], split: Split) -> list[Shot]:
    """`count` prompts from each of the seeds, which decide noise; the first decides the order of the prompts, too.

    One prompt in three is plain ("a red car on snow"), the others also name a part that is not asked away, as far as
    there are so many ("test" has 130 plain ones, and 389 that name a part). The noise does not depend on the setting.
    """
    plain = []
    telling = []
    for pair in dict.fromkeys(prompt_pairs(EVERY_PAIR, seed=seeds[0], split=split)):
        if names_part(pair):
            telling.append(pair)
        else:
            plain.append(pair)
    plain_count = min(len(plain), count - int(TELLING * count))
    # Of the plain prompts none is repeated; the others come round again if more are asked for than there are.
    pairs = [*plain[:plain_count], *islice(cycle(telling), count - plain_count)]
    random.Random(f"{seeds[0]} {split}").shuffle(pairs)
    shots = []
    for seed in seeds:
        for index, pair in enumerate(pairs):
            # The factor is far above the number of prompts, so no two seeds share a noise.
            shots.append(Shot(pair, 1_000_003 * seed + index))
    return shots


def names_part(pair: PromptPair) -> bool:
    """Return True if the prompt names a part."""
    return not set(PARTS).isdisjoint(pair.prompt.split())


def share(rows: Sequence[Row], column: str) -> float | None:
    """Return the mean of a column over the rows that have it; None if none has."""
    values = _values(rows, column)
    return round(sum(values) / len(values), 4) if values else None


def spread(rows: Sequence[Row], column: str) -> tuple[float, float] | None:
    """Return the lowest and highest share, whatever the unreadable pictures show; None without rows."""
    values = _values(rows, column)
    unread = sum(row.quality is None for row in rows)
    count = len(values) + unread
    if not count:
        return None
    return round(sum(values) / count, 4), round((sum(values) + unread) / count, 4)


def _values(rows: Sequence[Row], column: str) -> list[float]:
    """Return a column as numbers, without the rows in which it is None."""
    values = []
    for row in rows:
        value = getattr(row, column)
        if value is not None:
            values.append(float(value))
    return values


def _row(setting: Setting, shot: Shot, reading: Reading) -> Row:
    pair = shot.pair
    row = partial(
        Row, setting.name, pair.split, pair.prompt, pair.negative, shot.noise, saw=words(reading, pair.negative)
    )
    if reading.scene is None or reading.quality is None:
        return row(object=None, part_gone=None, colour=None, background=None, named=None, quality=None)
    verdict = answer(reading, Question(pair.object, pair.negative))
    things = reading.scene.things
    named_parts = set(pair.prompt.split()) & set(PARTS)
    return row(
        object=verdict.positive,
        part_gone=verdict.negative,
        colour=any(thing.object == pair.object and thing.colour == pair.colour for thing in things),
        background=reading.scene.background == pair.background,
        named=any(named_parts <= thing.parts for thing in things) if named_parts else None,
        quality=round(reading.quality, 4),
    )
