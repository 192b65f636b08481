"""Hashes that identify weights, LoRAs and pictures."""

from __future__ import annotations

import hashlib
from pathlib import Path

WEIGHTS = {".safetensors", ".json", ".txt", ".model"}  # tensors; settings; vocabularies of tokenizers


def hash_file(file: Path) -> str:
    """Return the sha256 of a file's content, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def hash_folder(folder: Path) -> str:
    """Return one sha256 over what a model below a folder consists of, in the order of the files' relative names.

    That is its weights, and what decides pixels as much as they do: settings of every part and tokenizer files.
    """
    total = hashlib.sha256()
    files = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.suffix in WEIGHTS}
    for name in sorted(files):
        total.update(f"{name} {hash_file(files[name])}\n".encode())
    return total.hexdigest()
