"""Where pictures go: decided, and tried out, before any time is spent on drawing."""

from __future__ import annotations

import os
import re
import stat
import tempfile
from collections.abc import Iterable
from itertools import count as count_up
from pathlib import Path

from vsf.errors import RequestError


def plan(out: str, count: int, stem: str, suffix: str = ".png") -> list[Path]:
    """The files that `count` pictures, or clips with the suffix .mp4, will be written to.

    `out` may be a file of that suffix (several are numbered after it: name-0001.png) or a folder, where files are
    named after `stem` with the first free numbers. What ends in a slash is a folder, whatever its name. Folders that
    are missing are made.

    Raises:
        RequestError: nothing can be written there, or the file is of another kind.
    """
    target = Path(out).expanduser()
    try:
        is_folder = out.endswith(("/", os.sep)) or target.is_dir() or not target.suffix
        if not is_folder and target.suffix.lower() != suffix:
            what = f"{'clips' if suffix == '.mp4' else 'pictures'} are written as {suffix[1:].upper()}"
            raise RequestError(f'{what}; "{target}" should end in {suffix}, or name a folder.')
        folder = target if is_folder else target.parent
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        files = _free_names(folder, stem, count, suffix) if is_folder else _numbered(target, count)
    except OSError as error:
        raise RequestError(f'cannot write to "{target}": {error.strerror}.') from error
    check_names(files)
    return files


def check_names(files: Iterable[Path]) -> None:
    """Raise RequestError for a name that the file system does not take, or that a folder has."""
    for file in files:
        try:
            mode = file.lstat().st_mode
        except FileNotFoundError:
            continue
        except OSError as error:
            raise RequestError(f'cannot write to "{file}": {error.strerror}.') from error
        if stat.S_ISDIR(mode):
            raise RequestError(f'cannot write "{file}": there is a folder of that name.')


def stem_of(prompt: str) -> str:
    """A short file name from a prompt: `a red car on snow` becomes `a-red-car-on-snow`."""
    return re.sub(r"[^\w]+", "-", prompt.lower()).strip("-_")[:40].rstrip("-_") or "image"


def _numbered(target: Path, count: int) -> list[Path]:
    if count == 1:
        return [target]
    return [target.with_stem(f"{target.stem}-{number:04d}") for number in range(1, count + 1)]


def _free_names(folder: Path, stem: str, count: int, suffix: str) -> list[Path]:
    free = (file for number in count_up(1) if not (file := folder / f"{stem}-{number:04d}{suffix}").exists())
    return [next(free) for _ in range(count)]
