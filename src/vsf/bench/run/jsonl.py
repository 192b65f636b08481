"""Records that survive: one JSON object per line, and files that are there in full or not at all."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, TypeVar
from uuid import uuid4

from pydantic import BaseModel, ValidationError

from vsf.errors import RequestError

Record = TypeVar("Record", bound=BaseModel)


def read(file: Path, kind: type[Record]) -> list[Record]:
    """The records of a file, or of one packed by gzip beside it (`rows.jsonl.gz`); none where there is neither.

    A last line without its line end was being written when the process died; it does not count.

    Raises:
        RequestError: the file cannot be read, or a finished line is damaged.
    """
    try:
        text = gzip.decompress(packed(file).read_bytes()) if is_packed(file) else file.read_bytes()
    except FileNotFoundError:
        return []
    except (OSError, EOFError) as error:
        raise RequestError(f'cannot read "{file}": {getattr(error, "strerror", None) or error}.') from error
    records = []
    for number, line in enumerate(text[: text.rfind(b"\n") + 1].splitlines(), 1):
        try:
            records.append(kind.model_validate_json(line))
        except ValidationError as error:
            problem = error.errors()[0]["msg"]
            raise RequestError(f'line {number} of "{file}" is damaged: {problem}. Remove it and run again.') from error
    return records


def append(file: Path, records: Iterable[BaseModel]) -> None:
    """Write records behind the last finished line, all of them safely on the disk when this returns.

    Raises:
        RequestError: they could not be written, for instance because the disk is full; the file is then as before.
    """
    if is_packed(file):
        raise RequestError(f'"{packed(file)}" is packed, which keeps it as it is: unpack it with gunzip to go on.')
    lines = b"".join(record.model_dump_json().encode() + b"\n" for record in records)
    try:
        with file.open("a+b") as stream:
            end = _end_of_last_line(stream)
            stream.truncate(end)
            try:
                stream.write(lines)
                stream.flush()
                os.fsync(stream.fileno())
            except OSError:
                os.truncate(file, end)
                raise
    except OSError as error:
        raise RequestError(_cannot_write(file, error)) from error


def packed(file: Path) -> Path:
    """Where a file is once it is packed by gzip."""
    return file.with_name(f"{file.name}.gz")


def is_packed(file: Path) -> bool:
    """Whether the file is there in packed form alone."""
    return packed(file).exists() and not file.exists()


def write(file: Path, content: bytes) -> None:
    """Put a file on the disk: after a crash it is there in full or not at all. Raises RequestError."""
    part = file.with_name(f".{file.name}.{uuid4().hex}.part")  # of this call alone: others may write the same file
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(file)
        _sync_folder(file.parent)
    except OSError as error:
        with suppress(OSError):  # what could not be written may not be there to remove
            part.unlink(missing_ok=True)
        raise RequestError(_cannot_write(file, error)) from error


def write_json(file: Path, document: BaseModel) -> None:
    """Put a document on the disk as JSON. Raises RequestError."""
    write(file, document.model_dump_json(indent=2).encode() + b"\n")


def _end_of_last_line(stream: BinaryIO, block: int = 65536) -> int:
    """Where the last finished line ends; 0 when there is none."""
    end = stream.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - block)
        stream.seek(start)
        found = stream.read(end - start).rfind(b"\n")
        if found >= 0:
            return int(start + found + 1)
        end = start
    return 0


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder as durable as the files; only POSIX systems let a folder be opened."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _cannot_write(file: Path, error: OSError) -> str:
    return (
        f'cannot write "{file}": {error.strerror or error}. Everything finished before is kept; '
        "put that right and give the same command again to go on."
    )
