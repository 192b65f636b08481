"""Pictures given as input: the start image and the mask."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from vsf.errors import RequestError

if TYPE_CHECKING:
    from PIL.Image import Image


def open_image(file: Path, size: tuple[int, int] | None = None) -> Image:
    """Open a picture in RGB, resized to `size` (width, height) if given.

    Raises:
        RequestError: the file cannot be read.
    """
    from PIL.Image import Resampling

    picture = _read(file, "image", "RGB")
    return picture if size is None else picture.resize(size, Resampling.LANCZOS)


def image_size(file: Path) -> tuple[int, int]:
    """Return the width and height of a picture without reading its pixels.

    Raises:
        RequestError: the file is not a picture.
    """
    with _opened(file, "image") as picture:
        return picture.size


def open_mask(file: Path) -> Image:
    """Open a mask in greyscale: white where the negative acts; transparent pixels count as black.

    Raises:
        RequestError: the file cannot be read, or is black all over, so that the negative would act nowhere.
    """
    from PIL import Image

    painted = _read(file, "mask", "RGBA")
    black = Image.new("RGBA", painted.size, "black")
    mask = Image.alpha_composite(black, painted).convert("L")
    if mask.getbbox() is None:
        raise RequestError(f'the mask "{file}" is black all over; paint white where the negative prompt is to act.')
    return mask


def _read(file: Path, role: str, mode: str) -> Image:
    with _opened(file, role) as picture:
        return picture.convert(mode)


@contextmanager
def _opened(file: Path, role: str) -> Iterator[Image]:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as picture:
            yield picture
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise RequestError(f'cannot read the {role} "{file}": {error}') from error
