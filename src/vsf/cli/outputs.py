"""Output files: chosen, reserved and tried out before any time is spent on drawing."""

from __future__ import annotations

import os
import re
import stat
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from vsf.errors import RequestError
from vsf.generation.files import Companions, reserved_names


@contextmanager
def planned(
    out: str, stems: Sequence[str], suffix: str = ".png", companions: Companions = lambda _: ()
) -> Iterator[list[Path]]:
    """Yield the files to write pictures or clips to, one per stem, and create missing folders.

    `out` is a file with the suffix (several files are numbered after it: name-0001.png) or a folder. In a folder, each
    file is named after its stem with the first free number, which is reserved against other processes until the
    context ends. A name that ends in a slash is a folder, even with a dot in it.

    Args:
        out: a file or a folder.
        stems: start of the file names if `out` is a folder; equal ones are numbered.
        suffix: end of the file names: ".png", or ".mp4" for clips.
        companions: returns the files written beside each one.

    Raises:
        RequestError: nothing can be written there, or the file has another suffix.
    """
    target = Path(out).expanduser()
    with ExitStack() as reservations:
        try:
            is_folder = out.endswith(("/", os.sep)) or target.is_dir() or not target.suffix
            if not is_folder and target.suffix.lower() != suffix:
                rule = f"{'clips' if suffix == '.mp4' else 'pictures'} are written as {suffix[1:].upper()}"
                raise RequestError(f'{rule}; "{target}" should end in {suffix}, or name a folder.')
            folder = target if is_folder else target.parent
            folder.mkdir(parents=True, exist_ok=True)
            # Raises if the folder cannot be written to.
            with tempfile.TemporaryFile(dir=folder):
                pass
            if is_folder:
                files = _reserve(reservations, folder, stems, suffix, companions)
            else:
                files = _numbered(target, len(stems))
        except OSError as error:
            raise RequestError(f'cannot write to "{target}": {error.strerror}.') from error
        for file in files:
            _check_names([file, *companions(file)])
        yield files


def _check_names(files: Iterable[Path]) -> None:
    """Raise RequestError for a name that the file system rejects, or that is a folder's."""
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
    """Turn a prompt into a short file name: `a red car on snow` becomes `a-red-car-on-snow`."""
    return re.sub(r"[^\w]+", "-", prompt.lower()).strip("-_")[:40].rstrip("-_") or "image"


def _reserve(
    reservations: ExitStack, folder: Path, stems: Sequence[str], suffix: str, companions: Companions
) -> list[Path]:
    """Reserve as many names for each stem as it occurs, and return them in the order of the stems."""
    names: dict[str, Iterator[Path]] = {}
    for stem, count in Counter(stems).items():
        reserved = reservations.enter_context(reserved_names(folder, stem, count, suffix, companions))
        names[stem] = iter(reserved)
    return [next(names[stem]) for stem in stems]


def _numbered(target: Path, count: int) -> list[Path]:
    if count == 1:
        return [target]
    return [target.with_stem(f"{target.stem}-{number:04d}") for number in range(1, count + 1)]
