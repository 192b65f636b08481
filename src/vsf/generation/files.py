"""Files that are there in full or not at all, under names that no other process takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import count as count_up
from pathlib import Path
from uuid import uuid4

from vsf.errors import RequestError

Companions = Callable[[Path], Iterable[Path]]
"""From a file to those that will be written beside it, and whose names have to be free as well."""


def report_files(picture: Path, negatives: int) -> list[Path]:
    """Name the files of a picture's report: the JSON file, then one heat map for each negative."""
    maps = [picture.with_name(f"{picture.stem}.heat-{number}.png") for number in range(1, negatives + 1)]
    return [picture.with_name(f"{picture.stem}.report.json"), *maps]


def note_of(clip: Path) -> Path:
    """Name the file beside a clip that says how it was made."""
    return clip.with_suffix(".json")


@contextmanager
def atomic_write(file: Path) -> Iterator[Path]:
    """Give a file to write that takes the place of `file` when it is finished, and is gone when it is not.

    Raises:
        RequestError: the file cannot be written.
    """
    part = file.with_name(f".{uuid4().hex}.part")  # short: a name derived from the file's could be too long
    try:
        yield part
        part.replace(file)
    except OSError as error:
        raise RequestError(f'cannot write "{file}": {error.strerror or error}.') from error
    finally:
        with suppress(OSError):  # a part left over is worth less than the reason why the picture was not written
            part.unlink(missing_ok=True)


@contextmanager
def reserved_names(
    folder: Path, stem: str, count: int, suffix: str, companions: Companions = lambda _: ()
) -> Iterator[list[Path]]:
    """Choose the first free names `stem-0001.suffix`, ... and keep every other process off them until the end.

    A number is reserved by a hidden file that is created exclusively, and holds for all suffixes. What is drawn lies
    under its final name only when it is finished, so even a killed process leaves no empty picture behind, only a
    number that is skipped from then on.

    Args:
        folder: where the files will be; it has to be there.
        stem: what their names begin with.
        count: how many names to reserve.
        suffix: what their names end in, such as ".png".
        companions: names what will be written beside a file.

    Raises:
        OSError: nothing can be created in the folder.
    """
    with ExitStack() as reservations:
        files: list[Path] = []
        numbers = count_up(1)
        while len(files) < count:
            name = f"{stem}-{next(numbers):04d}"
            file = folder / f"{name}{suffix}"
            names = [file, *companions(file)]
            if _any_exists(names):
                continue
            reservation = folder / f".{name}.reserved"
            try:
                reservation.open("x").close()
            except FileExistsError:
                continue
            if _any_exists(names):  # finished, and its reservation given up, since the first look
                reservation.unlink()
                continue
            reservations.callback(reservation.unlink, missing_ok=True)
            files.append(file)
        yield files


def _any_exists(names: Iterable[Path]) -> bool:
    return any(name.is_symlink() or name.exists() for name in names)
