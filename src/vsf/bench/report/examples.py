"""Pictures for a report, side by side: the best and the worst of the best setting, and a sample that nobody chose."""

from __future__ import annotations

import base64
import io
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vsf.bench.report.content import Content
from vsf.bench.run.rows import IMAGES, Score
from vsf.bench.stats.tables import Key
from vsf.bench.suites.load import Pair
from vsf.errors import RequestError

EXTREMES = 4  # best pairs, and worst ones
CHANCE = 8  # pairs that chance chose
SIDE = 256  # pixels; larger images are scaled down, so that a browser can still open the page


@dataclass(frozen=True)
class Example:
    """An image, as a data URL, with its score."""

    score: Score
    address: str


@dataclass(frozen=True)
class SideBySide:
    """The images of one pair and seed, by the label of the setting; a setting that lacks it is left out."""

    prompt: str
    negative: str
    images: Mapping[str, Example]


@dataclass(frozen=True)
class Examples:
    """The pictures of a report.

    Attributes:
        best: Of the best setting beside the unguided ones.
        worst: The same for its worst.
        chance: The same pairs and seeds for every setting that represents a curve.
        labels: These settings.
    """

    best: Sequence[SideBySide] = ()
    worst: Sequence[SideBySide] = ()
    chance: Sequence[SideBySide] = ()
    labels: Sequence[str] = ()


def choose(content: Content, pairs: Mapping[str, Pair], folders: Mapping[str, Path]) -> Examples:
    """Choose the pictures of a report.

    Args:
        content: The report.
        pairs: By id.
        folders: Of each student.

    Returns:
        Nothing at all where a folder has rows but no images.

    Raises:
        RequestError: An image is missing or cannot be read.
    """
    if not all((folder / IMAGES).exists() for folder in folders.values()):
        return Examples()
    labels = list(dict.fromkeys(content.shown.values()))

    def side_by_side(key: Key, of_settings: Sequence[str]) -> SideBySide:
        images = {}
        for label in of_settings:
            score = content.tables[label].get(key)
            if score is not None:
                images[label] = Example(score, _data_url(folders[score.student] / score.row.image))
        pair = pairs[key[0]]
        return SideBySide(pair.prompt, pair.negative, images)

    best_label = content.answer.best if content.answer else labels[0]
    unguided = [setting.label for setting in content.settings if setting.method == "none"][:1]
    extremes = list(dict.fromkeys([*unguided, best_label]))
    complete = {key: score for key, score in content.tables[best_label].items() if score.is_complete}
    ranked = sorted(complete, key=lambda key: merit(complete[key]))
    # Sorted before sampling: the order of a set of strings changes from process to process.
    shared = set.intersection(*(set(content.tables[label]) for label in labels))
    sample = random.Random(0).sample(sorted(shared), min(CHANCE, len(shared)))
    return Examples(
        best=[side_by_side(key, extremes) for key in ranked[::-1][:EXTREMES]],
        worst=[side_by_side(key, extremes) for key in ranked[:EXTREMES]],
        chance=[side_by_side(key, labels) for key in sample],
        labels=labels,
    )


def merit(score: Score) -> tuple[float, float, float]:
    """Return the sort key of a scored image: full success, the number of questions it passed, then its quality."""
    passed = float(bool(score.positive)) + float(bool(score.negative))
    return float(bool(score.success)), passed, score.quality or 0.0


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
