"""Pictures that a request starts from or is confined by."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from vsf.errors import RequestError

if TYPE_CHECKING:
    from PIL.Image import Image


def open_image(file: Path, size: tuple[int, int] | None = None) -> Image:
    """A picture in RGB, at a size (width, height) if one is asked for. Raises RequestError if it cannot be read."""
    from PIL.Image import Resampling

    picture = _read(file, "image", "RGB")
    return picture if size is None else picture.resize(size, Resampling.LANCZOS)


def image_size(file: Path) -> tuple[int, int]:
    """Return the width and height of a picture without reading its pixels. Raises RequestError for no picture."""
    with _opened(file, "image") as picture:
        return picture.size


def open_mask(file: Path) -> Image:
    """A mask in grey, white where the negative acts; what is transparent counts as black.

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


def _read(file: Path, what: str, mode: str) -> Image:
    with _opened(file, what) as picture:
        return picture.convert(mode)


@contextmanager
def _opened(file: Path, what: str) -> Iterator[Image]:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as picture:
            yield picture
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise RequestError(f'cannot read the {what} "{file}": {error}') from error
