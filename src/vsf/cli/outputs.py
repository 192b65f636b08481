"""Where pictures go: decided, reserved and tried out before any time is spent on drawing."""

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
    """Give the files that pictures, or clips with the suffix .mp4, will be written to, one for each stem.

    `out` may be a file of that suffix (several are numbered after it: name-0001.png) or a folder, where each file is
    named after its stem with the first free number, which no other process gets before the end. What ends in a slash
    is a folder, whatever its name. Folders that are missing are made.

    Args:
        out: a file or a folder.
        stems: what the names begin with where `out` is a folder; equal ones are numbered.
        suffix: what the names end in.
        companions: names what will be written beside a file.

    Raises:
        RequestError: nothing can be written there, or the file is of another kind.
    """
    target = Path(out).expanduser()
    with ExitStack() as reservations:
        try:
            is_folder = out.endswith(("/", os.sep)) or target.is_dir() or not target.suffix
            if not is_folder and target.suffix.lower() != suffix:
                what = f"{'clips' if suffix == '.mp4' else 'pictures'} are written as {suffix[1:].upper()}"
                raise RequestError(f'{what}; "{target}" should end in {suffix}, or name a folder.')
            folder = target if is_folder else target.parent
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
            if is_folder:
                files = _reserve(reservations, folder, stems, suffix, companions)
            else:
                files = _numbered(target, len(stems))
        except OSError as error:
            raise RequestError(f'cannot write to "{target}": {error.strerror}.') from error
        check_names(name for file in files for name in [file, *companions(file)])
        yield files


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
    """Make a short file name from a prompt: `a red car on snow` becomes `a-red-car-on-snow`."""
    return re.sub(r"[^\w]+", "-", prompt.lower()).strip("-_")[:40].rstrip("-_") or "image"


def _reserve(
    reservations: ExitStack, folder: Path, stems: Sequence[str], suffix: str, companions: Companions
) -> list[Path]:
    """Reserve as many names for each stem as it occurs; returns them in the order of the stems."""
    names = {
        stem: iter(reservations.enter_context(reserved_names(folder, stem, count, suffix, companions)))
        for stem, count in Counter(stems).items()
    }
    return [next(names[stem]) for stem in stems]


def _numbered(target: Path, count: int) -> list[Path]:
    if count == 1:
        return [target]
    return [target.with_stem(f"{target.stem}-{number:04d}") for number in range(1, count + 1)]
