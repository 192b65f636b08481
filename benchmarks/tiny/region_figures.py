"""A negative that holds in one half of the picture only: ``python benchmarks/tiny/region_figures.py``.

Two objects stand side by side, and both come with the part that is asked away, but only in the left half. How much does
the picture change there and how much elsewhere, and what does the judge say of either object?
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

RESULTS, PICTURE = Path("benchmarks/results/region_figures.json"), Path("docs/images/region.png")
LEFT, RIGHT = (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)
METHOD = vsf.ValueSignFlip(scale=4.0, orthogonal=True, special_tokens="strip")
RATIO = 5.0
SHOWN = 5


@dataclass(frozen=True)
class Twosome:
    """A prompt with two objects that share a part, left and right, and the seed of its noise."""

    prompt: str
    left: str
    right: str
    part: str
    noise: int


@dataclass(frozen=True)
class Row:
    """One twosome, unguided and guided in its left half.

    inside, outside: mean absolute change of a pixel (0 to 1) in the left and in the right half. The others tell whether
    the object on that side has the part, None where the judge does not see that object.
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


def twosomes(count: int, seed: int) -> list[Twosome]:
    """Random pairs of objects that both come with a part, which the prompt does not name."""
    rng = random.Random(f"twosomes {seed}")
    pairs = [
        (left, right, part)
        for left, right in permutations(OBJECTS, 2)
        for part in sorted(set(OBJECTS[left].essential) & set(OBJECTS[right].essential))
    ]
    found = []
    for noise in range(count):
        left, right, part = rng.choice(pairs)
        first, second = rng.sample(list(COLOURS), 2)
        place = BACKGROUNDS[rng.choice(list(BACKGROUNDS))].phrase
        told = f"{_article(first)} {first} {left} and {_article(second)} {second} {right} {place}"
        found.append(Twosome(told, left, right, part, 1_000_003 * seed + noise))
    return found


def draw(pipe: Any, asked: Sequence[Twosome], box: tuple[float, ...] | None) -> list[Image]:
    """The pictures of some twosomes, guided in a box or not at all."""
    negatives = "" if box is None else [each.part for each in asked]
    with vsf.guide(pipe, negatives, method=METHOD, mask=box):
        images: list[Image] = pipe(
            [each.prompt for each in asked],
            num_inference_steps=8,
            guidance_scale=0.0,
            generator=[torch.Generator().manual_seed(each.noise) for each in asked],
        ).images
    return images


def measured(asked: Twosome, before: tuple[Image, Reading], after: tuple[Image, Reading]) -> Row:
    """Compare a picture with the same guided in its left half."""
    pixels = [np.asarray(image.convert("RGB"), dtype=np.float64) / 255 for image, _ in (before, after)]
    change = np.abs(pixels[1] - pixels[0])
    half = change.shape[1] // 2
    has = [_has(reading, name, asked.part) for name in (asked.left, asked.right) for _, reading in (before, after)]
    inside, outside = round(float(change[:, :half].mean()), 5), round(float(change[:, half:].mean()), 5)
    return Row(asked.prompt, asked.part, asked.noise, inside, outside, *has)


def figures_of(rows: Sequence[Row]) -> list[Figure]:
    """How much more changes inside than outside, and what becomes of the part on either side."""
    inside, outside = (sum(getattr(row, name) for row in rows) for name in ("inside", "outside"))
    figures = [Figure("mean change inside the mask over that outside", inside / outside, low=RATIO)]
    for side in ("left", "right"):
        had = [row for row in rows if getattr(row, f"{side}_before")]
        told = [row for row in had if getattr(row, f"{side}_after") is not None]
        gone = sum(not getattr(row, f"{side}_after") for row in told) / len(told) if told else None
        figures.append(Figure(f"{side} object, with the part before: gone after", gone, note=f"{len(told)} pictures"))
    return figures


def main(
    prompts: Annotated[int, typer.Option(min=1, help="Pictures of two objects.")] = 96,
    seed: Annotated[int, typer.Option(help="Decides prompts and noise.")] = 0,
    out: Annotated[Path, typer.Option(help="The JSON file to write.")] = RESULTS,
    picture: Annotated[Path, typer.Option(help="The contact sheet to write.")] = PICTURE,
) -> None:
    """Measure, print, draw, and exit with 1 when the mask does not hold."""
    pipe, asked = pipeline(folder()), twosomes(prompts, seed)
    rows, shown = [], []
    with progress_of("two objects", len(asked)) as advance:
        for at in range(0, len(asked), BATCH):
            some = asked[at : at + BATCH]
            drawn = [draw(pipe, some, box) for box in (None, LEFT, RIGHT)]
            read = [list(zip(images, look(images), strict=True)) for images in drawn[:2]]
            rows += [measured(*each) for each in zip(some, *read, strict=True)]
            shown += list(zip(some, *drawn, strict=True))
            for _ in some:
                advance()
    figures = figures_of(rows)
    typer.echo(table(figures))
    write(
        out, figures, about=[{"weights": hash_folder(folder()), "method": repr(METHOD)}], rows=list(map(asdict, rows))
    )
    best = sorted(zip(rows, shown, strict=True), key=lambda pair: not (pair[0].left_before and pair[0].right_before))
    _sheet([pair[1] for pair in best[:SHOWN]]).save(picture)
    raise typer.Exit(1 if any(figure.held is False for figure in figures) else 0)


def _sheet(shown: Sequence[tuple[Twosome, Image, Image, Image]]) -> Image:
    columns = [f"{each.prompt} / {each.part}" for each, *_ in shown]
    title = ["The same noise unguided, and guided away from the part in the left or in the right half only"]
    images = [image for _, *images in shown for image in images]
    return contact_sheet(title, columns, ["unguided", "left half", "right half"], images)


def _has(reading: Reading, name: str, part: str) -> bool | None:
    """Whether the object has the part; None when the judge does not see the object."""
    things = [] if reading.scene is None else [thing for thing in reading.scene.things if thing.object == name]
    return any(part in thing.parts for thing in things) if things else None


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


if __name__ == "__main__":
    run(app_of(main))
