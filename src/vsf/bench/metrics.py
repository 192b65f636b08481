"""Metrics that compare a picture with the unguided one, computed once and kept beside the verdicts.

A metric of one's own is a class like `Change`, announced by an installed package as an entry point of the group
"vsf.metrics".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from jaxtyping import Bool, Float

from vsf import tiny
from vsf.bench.run import jsonl
from vsf.bench.run.manifest import in_use, pairs
from vsf.bench.run.rows import MEASURES, Measure, Row, measures, rows
from vsf.bench.suites.load import Pair
from vsf.errors import RequestError
from vsf.registry import Registry

if TYPE_CHECKING:
    from vsf.bench.run.draw import ProgressCallback

Picture = Float[np.ndarray, "height width 3"]
Mask = Bool[np.ndarray, "height width"]


@dataclass(frozen=True)
class Subject:
    """A picture to measure.

    Attributes:
        picture: Values from 0 to 1.
        unguided: The picture from the same prompt, noise and steps without a negative prompt.
        outside: The pixels that the unwanted part does not cover in the unguided picture; all where that is not known.
    """

    picture: Picture
    unguided: Picture
    outside: Mask


class Metric(Protocol):
    """Measures pictures one by one.

    Attributes:
        name: Identifies the metric in stored measures, and the column of a report.
        version: Changes whenever the same picture could get another value.
    """

    name: str
    version: str

    def __call__(self, subject: Subject) -> float:
        """Return the value of a picture."""
        ...


class Change:
    """The structural distance between a picture and the unguided one, outside the part that was asked away.

    It is 1 − SSIM over the luminance, from 0 for equal pictures to about 1 for unrelated ones; Wang et al., Image
    quality assessment: from error visibility to structural similarity, IEEE Trans. Image Process. 13 (2004).
    """

    name = "change"
    version = "1"
    window = 7
    """Side in pixels of the square over which means and variances are taken."""

    def __call__(self, subject: Subject) -> float:
        """Return 1 − the mean of SSIM over the pixels outside."""
        from scipy.ndimage import uniform_filter

        first = _luminance(subject.picture)
        second = _luminance(subject.unguided)
        mean_first = uniform_filter(first, self.window)
        mean_second = uniform_filter(second, self.window)
        variance_first = uniform_filter(first**2, self.window) - mean_first**2
        variance_second = uniform_filter(second**2, self.window) - mean_second**2
        covariance = uniform_filter(first * second, self.window) - mean_first * mean_second
        # The paper's constants, for values from 0 to 1.
        brightness = (2 * mean_first * mean_second + 0.01**2) / (mean_first**2 + mean_second**2 + 0.01**2)
        structure = (2 * covariance + 0.03**2) / (variance_first + variance_second + 0.03**2)
        return float(1 - (brightness * structure)[subject.outside].mean())


METRICS: Registry[type[Metric]] = Registry("metric", {Change.name: Change}, plugins="vsf.metrics")


def measure(folder: Path, metric: Metric, progress: ProgressCallback) -> int:
    """Measure every picture of a folder that has an unguided counterpart and no measure yet.

    Args:
        folder: Of the run.
        metric: The metric.
        progress: Called after each picture.

    Returns:
        The number of pictures that have a measure now.

    Raises:
        RequestError: There are no rows, a picture is lost, or the disk is full.
    """
    all_rows = rows(folder)
    if not all_rows:
        raise RequestError(f'there are no rows in "{folder}": run "vsf bench run --out {folder}" first.')
    counterparts = {_counterpart(row): row for row in all_rows if _is_unguided(row)}
    pair_by_id = {pair.id: pair for pair in pairs(folder)}
    with in_use(folder):
        done = {entry.key for entry in measures(folder) if (entry.metric, entry.version) == _identity(metric)}
        guided = [row for row in all_rows if not _is_unguided(row) and _counterpart(row) in counterparts]
        for number, row in enumerate(guided, 1):
            if row.key not in done:
                subject = _subject(folder, row, counterparts[_counterpart(row)], pair_by_id[row.pair])
                value = metric(subject)
                entry = Measure(key=row.key, metric=metric.name, version=metric.version, value=value)
                jsonl.append(folder / MEASURES, [entry])
            progress(number, len(guided))
        return len(guided)


def _identity(metric: Metric) -> tuple[str, str]:
    return metric.name, metric.version


def _is_unguided(row: Row) -> bool:
    return row.method == "none" and row.guidance_scale <= 1


def _counterpart(row: Row) -> tuple[str, int, int, str]:
    """Return what a picture and its unguided counterpart have in common: prompt, noise, steps and weights."""
    return row.pair, row.seed, row.steps, row.revision


def _subject(folder: Path, row: Row, unguided: Row, pair: Pair) -> Subject:
    counterpart = _picture(folder / unguided.image)
    outside = np.ones(counterpart.shape[:2], dtype=bool)
    if row.model in tiny.MODELS:
        outside = _outside_the_part(counterpart, pair.about)
    return Subject(_picture(folder / row.image), counterpart, outside)


def _outside_the_part(unguided: Picture, about: Mapping[str, str]) -> Mask:
    """Return the pixels that the part does not cover, as the scenes judge reads the unguided picture."""
    from PIL import Image

    from vsf.judges.scenes.judge import look, part_pixels

    image = Image.fromarray(np.round(unguided * 255).astype(np.uint8))
    covered = part_pixels(look([image])[0], about.get("object", ""), about.get("part", ""))
    as_image = Image.fromarray(covered).resize(image.size, Image.Resampling.NEAREST)
    return ~np.asarray(as_image, dtype=bool)


def _luminance(picture: Picture) -> Float[np.ndarray, "height width"]:
    """Return the luminance by the weights of ITU-R BT.601, in float64, in which variances keep their digits."""
    return picture.astype(np.float64) @ np.array([0.299, 0.587, 0.114])


def _picture(file: Path) -> Picture:
    """Load a picture, of a clip the first frame. Raises RequestError."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            return np.asarray(image.convert("RGB"), dtype=np.float32) / 255
    except OSError as error:
        raise RequestError(f'cannot read the picture "{file}": {error}.') from error
