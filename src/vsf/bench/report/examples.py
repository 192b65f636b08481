"""Pictures to look at: the best, the worst, and some that nobody chose."""

from __future__ import annotations

import base64
import io
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vsf.bench.report.content import Content
from vsf.bench.run.rows import IMAGES, Score
from vsf.bench.stats.tables import Table
from vsf.bench.suites.load import Pair
from vsf.errors import RequestError

COUNT = 6
SIDE = 256  # pixels; larger pictures are made smaller, so that the page stays one that a browser opens


@dataclass(frozen=True)
class Example:
    """A picture, as a data address, with its prompt and what the judge said."""

    score: Score
    prompt: str
    negative: str
    address: str


@dataclass(frozen=True)
class Sheet:
    """The pictures of one setting."""

    label: str
    best: Sequence[Example]
    worst: Sequence[Example]
    chance: Sequence[Example]


def choose(content: Content, pairs: Mapping[str, Pair], folder: Path) -> list[Sheet]:
    """A sheet for the setting that stands for each curve; those by chance are of the same prompts and seeds everywhere.

    None at all for a folder that holds rows alone, without any picture. Raises RequestError for a picture that is not
    there or cannot be read.
    """
    if not (folder / IMAGES).exists():
        return []
    labels = list(dict.fromkeys(content.shown.values()))
    shared = set.intersection(*(set(content.tables[label]) for label in labels))
    chance = random.Random(0).sample(sorted(shared), min(COUNT, len(shared)))
    return [_sheet(label, content.tables[label], chance, pairs, folder) for label in labels]


def merit(score: Score) -> tuple[float, float]:
    """What a picture is ranked by: how many questions it passed, then its quality. Only for scored ones."""
    return float(bool(score.positive)) + float(bool(score.negative)), score.quality or 0.0


def _sheet(
    label: str, table: Table, chance: Sequence[tuple[str, int]], pairs: Mapping[str, Pair], folder: Path
) -> Sheet:
    ranked = sorted((row for row in table.values() if None not in (row.positive, row.negative, row.quality)), key=merit)
    worst, best = ranked[:COUNT], ranked[::-1][:COUNT]

    def shown(rows: Sequence[Score]) -> list[Example]:
        return [
            Example(row, pairs[row.pair].prompt, pairs[row.pair].negative, _address(folder / row.image)) for row in rows
        ]

    return Sheet(label, shown(best), shown(worst), shown([table[key] for key in chance]))


def _address(file: Path) -> str:
    """The picture itself, small enough, in the form in which a page can hold it; the first frame of a clip."""
    from PIL import Image

    try:
        with Image.open(file) as picture:
            small = picture.convert("RGB")
    except OSError as error:
        raise RequestError(f'cannot read the picture "{file}": {error}.') from error
    stream = io.BytesIO()
    if max(small.size) > SIDE:
        small.thumbnail((SIDE, SIDE))
        small.save(stream, "JPEG", quality=85)
    else:
        small.save(stream, "PNG", optimize=True)
    kind = "jpeg" if stream.getvalue()[:2] == b"\xff\xd8" else "png"
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"
