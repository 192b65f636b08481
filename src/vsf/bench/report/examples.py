"""Example images for a report: the best, the worst, and a random sample that nobody chose."""

from __future__ import annotations

import base64
import io
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vsf.bench.report.content import Content
from vsf.bench.run.rows import IMAGES, Score
from vsf.bench.stats.tables import Key, Table
from vsf.bench.suites.load import Pair
from vsf.errors import RequestError

COUNT = 6
SIDE = 256  # pixels; larger images are scaled down, so that a browser can still open the page


@dataclass(frozen=True)
class Example:
    """An image, as a data URL, with its prompt and its score."""

    score: Score
    prompt: str
    negative: str
    address: str


@dataclass(frozen=True)
class Sheet:
    """The examples of one setting."""

    label: str
    best: Sequence[Example]
    worst: Sequence[Example]
    chance: Sequence[Example]


def choose(content: Content, pairs: Mapping[str, Pair], folder: Path) -> list[Sheet]:
    """Make a sheet for the setting that represents each curve; the random examples are the same images on every sheet.

    Returns:
        Nothing at all for a folder that has rows but no images.

    Raises:
        RequestError: An image is missing or cannot be read.
    """
    if not (folder / IMAGES).exists():
        return []
    labels = list(dict.fromkeys(content.shown.values()))
    # Sorted before sampling: the order of a set of strings changes from process to process.
    shared = set.intersection(*(set(content.tables[label]) for label in labels))
    chance = random.Random(0).sample(sorted(shared), min(COUNT, len(shared)))
    return [_sheet(label, content.tables[label], chance, pairs, folder) for label in labels]


def merit(score: Score) -> tuple[float, float]:
    """Return the sort key of a scored image: the number of questions it passed, then its quality."""
    return float(bool(score.positive)) + float(bool(score.negative)), score.quality or 0.0


def _sheet(label: str, table: Table, chance: Sequence[Key], pairs: Mapping[str, Pair], folder: Path) -> Sheet:
    complete = [score for score in table.values() if score.is_complete]
    ranked = sorted(complete, key=merit)

    def examples(scores: Sequence[Score]) -> list[Example]:
        entries = []
        for score in scores:
            pair = pairs[score.row.pair]
            entries.append(Example(score, pair.prompt, pair.negative, _data_url(folder / score.row.image)))
        return entries

    best = ranked[::-1][:COUNT]
    worst = ranked[:COUNT]
    return Sheet(label, examples(best), examples(worst), examples([table[key] for key in chance]))


def _data_url(file: Path) -> str:
    """Encode an image, scaled down, as a data URL; of a clip the first frame. Raises RequestError."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            small = image.convert("RGB")
    except OSError as error:
        raise RequestError(f'cannot read the picture "{file}": {error}.') from error
    stream = io.BytesIO()
    if max(small.size) > SIDE:
        small.thumbnail((SIDE, SIDE))
        small.save(stream, "JPEG", quality=85)
        kind = "jpeg"
    else:
        small.save(stream, "PNG", optimize=True)  # small enough to be kept without loss
        kind = "png"
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"
