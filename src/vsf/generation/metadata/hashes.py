"""Hashes that identify weights, LoRAs and pictures."""

from __future__ import annotations

import hashlib
from pathlib import Path

# Tensors; configurations; vocabularies of tokenizers.
WEIGHTS = {".safetensors", ".json", ".txt", ".model"}


def hash_file(file: Path) -> str:
    """Return the SHA-256 of a file's content in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def hash_folder(folder: Path) -> str:
    """Return one SHA-256 over everything in a model folder that decides pixels.

    That is its weights, the configuration of every part and the files of its tokenizers, by their relative names in
    sorted order.
    """
    total = hashlib.sha256()
    files: dict[str, Path] = {}
    for file in folder.rglob("*"):
        if file.suffix in WEIGHTS:
            files[file.relative_to(folder).as_posix()] = file
    for name in sorted(files):
        total.update(f"{name} {hash_file(files[name])}\n".encode())
    return total.hexdigest()
