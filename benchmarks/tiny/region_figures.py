"""Measure guidance in one half of the picture only: ``python benchmarks/tiny/region_figures.py``.

Two objects stand side by side, and both normally have the unwanted part, but only the left half is guided. Compared
are the change of the picture there and elsewhere, and the judge's reading of either object.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
import typer

import vsf
from command import app_of, progress_of, run
from figure import Figure, table, write
from sampling import BATCH, pipeline
from vsf.generation.models import hash_folder
from vsf.generation.sheet import contact_sheet
from vsf.judges.scenes.judge import Reading, look
from vsf.tiny import folder
from vsf.tiny.scenes import BACKGROUNDS, COLOURS, OBJECTS

if TYPE_CHECKING:
    from PIL.Image import Image

RESULTS = Path("benchmarks/results/region_figures.json")
PICTURE = Path("docs/images/region.png")
LEFT = (0.0, 0.0, 0.5, 1.0)
RIGHT = (0.5, 0.0, 1.0, 1.0)
METHOD = vsf.ValueSignFlip(scale=4.0, orthogonal=True, special_tokens="strip")
RATIO = 5.0
SHOWN = 5


@dataclass(frozen=True)
class ObjectPair:
    """A prompt with a left and a right object that share a part, and the seed of its noise."""

    prompt: str
    left: str
    right: str
    part: str
    noise: int


@dataclass(frozen=True)
class Row:
    """A pair of objects, unguided and guided in its left half.

    Attributes:
        inside: Mean absolute change of a pixel (0 to 1) in the left half.
        outside: The same in the right half.
        left_before: Whether the left object has the part without guidance; None if the judge does not see that object.
            The other three are alike.
    """

    prompt: str
    part: str
    noise: int
    inside: float
    outside: float
    left_before: bool | None
    left_after: bool | None
    right_before: bool | None
    right_after: bool | None


def object_pairs(count: int, seed: int) -> list[ObjectPair]:
    """Draw random pairs of objects that normally have the same part, which the prompt does not name."""
    rng = random.Random(f"twosomes {seed}")  # the word decides the pictures of the committed results
    pairs = []
    for left, right in permutations(OBJECTS, 2):
        shared = set(OBJECTS[left].essential) & set(OBJECTS[right].essential)
        for part in sorted(shared):
            pairs.append((left, right, part))
    drawn = []
    for noise in range(count):
        left, right, part = rng.choice(pairs)
        first, second = rng.sample(list(COLOURS), 2)
        background = BACKGROUNDS[rng.choice(list(BACKGROUNDS))].phrase
        prompt = f"{_article(first)} {first} {left} and {_article(second)} {second} {right} {background}"
        drawn.append(ObjectPair(prompt, left, right, part, 1_000_003 * seed + noise))
    return drawn


def draw(pipe: Any, pairs: Sequence[ObjectPair], box: tuple[float, ...] | None) -> list[Image]:
    """Draw some pairs of objects, guided in a box or not at all."""
    negatives = "" if box is None else [pair.part for pair in pairs]  # without a negative nothing is guided
    with vsf.guide(pipe, negatives, method=METHOD, mask=box):
        images: list[Image] = pipe(
            [pair.prompt for pair in pairs],
            num_inference_steps=8,
            guidance_scale=0.0,
            generator=[torch.Generator().manual_seed(pair.noise) for pair in pairs],
        ).images
    return images


def measured(pair: ObjectPair, before: tuple[Image, Reading], after: tuple[Image, Reading]) -> Row:
    """Compare a picture with the same guided in its left half."""
    (image_before, reading_before), (image_after, reading_after) = before, after
    change = np.abs(_pixels(image_after) - _pixels(image_before))
    half = change.shape[1] // 2
    return Row(
        pair.prompt,
        pair.part,
        pair.noise,
        inside=round(float(change[:, :half].mean()), 5),
        outside=round(float(change[:, half:].mean()), 5),
        left_before=_has(reading_before, pair.left, pair.part),
        left_after=_has(reading_after, pair.left, pair.part),
        right_before=_has(reading_before, pair.right, pair.part),
        right_after=_has(reading_after, pair.right, pair.part),
    )


def figures_of(rows: Sequence[Row]) -> list[Figure]:
    """Compute how much more changes inside than outside, and how often the part goes on either side."""
    inside = sum(row.inside for row in rows)
    outside = sum(row.outside for row in rows)
    figures = [Figure("mean change inside the mask over that outside", inside / outside, low=RATIO)]
    for side in ("left", "right"):
        visible = 0
        without_part = 0
        for row in rows:
            after = getattr(row, f"{side}_after")
            if getattr(row, f"{side}_before") and after is not None:
                visible += 1
                without_part += not after
        gone = without_part / visible if visible else None
        figures.append(Figure(f"{side} object, with the part before: gone after", gone, note=f"{visible} pictures"))
    return figures


def main(
    prompts: Annotated[int, typer.Option(min=1, help="Pictures of two objects.")] = 96,
    seed: Annotated[int, typer.Option(help="Decides prompts and noise.")] = 0,
    out: Annotated[Path, typer.Option(help="The JSON file to write.")] = RESULTS,
    picture: Annotated[Path, typer.Option(help="The contact sheet to write.")] = PICTURE,
) -> None:
    """Measure, print, draw, and exit with 1 when the mask does not hold."""
    pipe = pipeline(folder())
    pairs = object_pairs(prompts, seed)
    rows = []
    shown = []
    with progress_of("two objects", len(pairs)) as advance:
        for start in range(0, len(pairs), BATCH):
            batch = pairs[start : start + BATCH]
            unguided = draw(pipe, batch, None)
            left_half = draw(pipe, batch, LEFT)
            right_half = draw(pipe, batch, RIGHT)  # for the sheet only
            before = zip(unguided, look(unguided), strict=True)
            after = zip(left_half, look(left_half), strict=True)
            rows += list(map(measured, batch, before, after))
            shown += list(zip(batch, unguided, left_half, right_half, strict=True))
            for _ in batch:
                advance()
    figures = figures_of(rows)
    typer.echo(table(figures))
    write(
        out, figures, about=[{"weights": hash_folder(folder()), "method": repr(METHOD)}], rows=list(map(asdict, rows))
    )
    # Pictures in which both objects had the part come first: only they show where it goes and where it stays.
    best = sorted(zip(rows, shown, strict=True), key=lambda pair: not (pair[0].left_before and pair[0].right_before))
    _sheet([pair[1] for pair in best[:SHOWN]]).save(picture)
    raise typer.Exit(1 if any(figure.held is False for figure in figures) else 0)


def _sheet(shown: Sequence[tuple[ObjectPair, Image, Image, Image]]) -> Image:
    columns = []
    images: list[Image] = []
    for pair, *images_of_pair in shown:
        columns.append(f"{pair.prompt} / {pair.part}")
        images += images_of_pair
    title = ["The same noise unguided, and guided away from the part in the left or in the right half only"]
    return contact_sheet(title, columns, ["unguided", "left half", "right half"], images)


def _pixels(image: Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"), dtype=np.float64) / 255


def _has(reading: Reading, name: str, part: str) -> bool | None:
    """Return whether the object has the part; None if the judge does not see the object."""
    things = [] if reading.scene is None else [thing for thing in reading.scene.things if thing.object == name]
    return any(part in thing.parts for thing in things) if things else None


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


if __name__ == "__main__":
    run(app_of(main))
