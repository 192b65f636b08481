"""Crash-safe files: JSON lines that survive a killed process, and files that are complete or absent."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, TypeVar
from uuid import uuid4

from pydantic import BaseModel, TypeAdapter, ValidationError

from vsf.errors import RequestError

Record = TypeVar("Record")


def read(file: Path, kind: type[Record]) -> list[Record]:
    """Read the records of a file, or of its gzipped form beside it (`rows.jsonl.gz`); none if there is neither.

    A last line without a line end was being written when the process died, and is ignored.

    Args:
        file: JSON lines.
        kind: A pydantic model or a dataclass.

    Raises:
        RequestError: The file cannot be read, or a finished line is damaged.
    """
    try:
        content = gzip.decompress(packed(file).read_bytes()) if is_packed(file) else file.read_bytes()
    except FileNotFoundError:
        return []
    except (OSError, EOFError) as error:
        raise RequestError(f'cannot read "{file}": {getattr(error, "strerror", None) or error}.') from error
    adapter = TypeAdapter(kind)
    finished = content[: content.rfind(b"\n") + 1]
    records = []
    for number, line in enumerate(finished.splitlines(), 1):
        try:
            records.append(adapter.validate_json(line))
        except ValidationError as error:
            problem = error.errors()[0]["msg"]
            raise RequestError(f'line {number} of "{file}" is damaged: {problem}. Remove it and run again.') from error
    return records


def append(file: Path, records: Iterable[object]) -> None:
    """Write records behind the last finished line; when this returns they are all safely on the disk.

    Raises:
        RequestError: They cannot be written, for instance because the disk is full; the file is then as before.
    """
    if is_packed(file):
        raise RequestError(f'"{packed(file)}" is packed, which keeps it as it is: unpack it with gunzip to go on.')
    lines = b"".join(TypeAdapter(type(record)).dump_json(record) + b"\n" for record in records)
    try:
        with file.open("a+b") as stream:
            end = _end_of_last_line(stream)
            stream.truncate(end)
            try:
                stream.write(lines)
                stream.flush()
                os.fsync(stream.fileno())
            except OSError:
                os.truncate(file, end)  # half a batch of records would look like a whole one
                raise
    except OSError as error:
        raise RequestError(_cannot_write(file, error)) from error


def packed(file: Path) -> Path:
    """Name the gzipped form of a file."""
    return file.with_name(f"{file.name}.gz")


def is_packed(file: Path) -> bool:
    """Return True if a file exists in gzipped form only."""
    return packed(file).exists() and not file.exists()


def write(file: Path, content: bytes) -> None:
    """Write a file atomically: after a crash it is complete, or as it was before. Raises RequestError."""
    part = file.with_name(f".{file.name}.{uuid4().hex}.part")  # unique: others may write the same file
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(file)
        _sync_folder(file.parent)
    except OSError as error:
        with suppress(OSError):  # the part may be as impossible to remove as it was to write
            part.unlink(missing_ok=True)
        raise RequestError(_cannot_write(file, error)) from error


def write_json(file: Path, document: BaseModel) -> None:
    """Write a document as JSON, atomically. Raises RequestError."""
    write(file, document.model_dump_json(indent=2).encode() + b"\n")


def _end_of_last_line(stream: BinaryIO, block: int = 65536) -> int:
    """Find the offset behind the last line end; 0 if there is none."""
    end = stream.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - block)
        stream.seek(start)
        line_end = stream.read(end - start).rfind(b"\n")
        if line_end >= 0:
            return int(start + line_end + 1)
        end = start
    return 0


def _sync_folder(folder: Path) -> None:
    """Make new names in a folder as durable as the files' contents; only POSIX systems let a folder be opened."""
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
