"""Atomic file writes, and output names that are reserved against other processes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from itertools import count as count_up
from pathlib import Path
from typing import Any
from uuid import uuid4

from vsf.errors import RequestError

Companions = Callable[[Path], Iterable[Path]]
"""Maps a picture or clip to the files written beside it, whose names have to be free as well."""


def report_files(picture: Path, negatives: int) -> list[Path]:
    """Return the files of a picture's report: the JSON file, then one heat map per negative."""
    files = [picture.with_name(f"{picture.stem}.report.json")]
    for number in range(1, negatives + 1):
        files.append(picture.with_name(f"{picture.stem}.heat-{number}.png"))
    return files


def sidecar(clip: Path) -> Path:
    """Return the JSON file beside a clip that holds its metadata."""
    return clip.with_suffix(".json")


@contextmanager
def atomic_write(file: Path) -> Iterator[Path]:
    """Yield a temporary file that replaces `file` on success and is deleted on failure.

    Raises:
        RequestError: the file cannot be written.
    """
    # Short: a name derived from the file's own could be too long.
    part = file.with_name(f".{uuid4().hex}.part")
    try:
        yield part
        part.replace(file)
    except OSError as error:
        raise RequestError(f'cannot write "{file}": {error.strerror or error}.') from error
    finally:
        # Failing to clean up must not hide why the file was not written.
        with suppress(OSError):
            part.unlink(missing_ok=True)


def write_json(file: Path, document: Mapping[str, Any]) -> None:
    """Write a JSON document atomically.

    Raises:
        RequestError: the file cannot be written.
    """
    with atomic_write(file) as part:
        part.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@contextmanager
def reserved_names(
    folder: Path, stem: str, count: int, suffix: str, companions: Companions = lambda _: ()
) -> Iterator[list[Path]]:
    """Choose the first free names `stem-0001.suffix`, ... and reserve them until the context ends.

    A hidden file, created exclusively, reserves a number for all suffixes. Pictures get their final names only when
    they are finished, so even a killed process leaves no empty picture, only a number that is skipped from then on.

    Args:
        folder: existing folder for the files.
        stem: start of the file names.
        count: number of names to reserve.
        suffix: end of the file names, such as ".png".
        companions: returns the files written beside each one.

    Raises:
        OSError: no file can be created in the folder.
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
            # Another process finished and gave up its reservation since the first look.
            if _any_exists(names):
                reservation.unlink()
                continue
            reservations.callback(reservation.unlink, missing_ok=True)
            files.append(file)
        yield files


def _any_exists(names: Iterable[Path]) -> bool:
    # exists() is False for a dangling link.
    return any(name.is_symlink() or name.exists() for name in names)
