"""Resolve a model's name and check a request against its settings, without importing or loading anything heavy."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from vsf import tiny
from vsf.errors import RequestError
from vsf.generation.pictures import image_size

HUB_ID = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")


@dataclass(frozen=True, slots=True)
class Source:
    """The location of a model; `path` is its folder or file, None on the hub."""

    kind: Literal["embedded", "folder", "checkpoint", "hub"]
    name: str
    path: Path | None = None
    revision: str | None = None


def locate(name: str) -> Source:
    """Resolve a model's name: an embedded model, a folder, a .safetensors checkpoint or a hub id.

    Raises:
        RequestError: there is no such model.
        UnknownNameError: a plain name that is not an embedded model's.
    """
    if name in tiny.MODELS:
        return Source("embedded", name, tiny.folder(name))
    path = Path(name).expanduser()
    if os.path.isdir(path):
        return Source("folder", name, path)
    if os.path.isfile(path):
        if path.suffix != ".safetensors":
            raise RequestError(f'a checkpoint has to be a .safetensors file, got "{path}"; other formats can run code.')
        return Source("checkpoint", name, path)
    hub = HUB_ID.fullmatch(name)
    if hub and path.suffix != ".safetensors" and not name.startswith((".", "~")):
        return Source("hub", hub["id"], revision=hub["revision"])
    if "/" in name or path.suffix:
        raise RequestError(f'there is no model "{name}": neither a folder or file nor a hub id such as owner/name.')
    # Raises for the unknown name, and suggests a known one.
    return Source("embedded", name, tiny.folder(name))


def read_index(folder: Path) -> dict[str, Any]:
    """Read the model_index.json of a diffusers folder.

    Raises:
        RequestError: the folder is not a diffusers model, or its index cannot be read.
    """
    index = folder / "model_index.json"
    if not index.is_file():
        raise RequestError(f'"{folder}" is not a diffusers model: it has no model_index.json.')
    return _read_json(index)


def check_complete(folder: Path, index: Mapping[str, Any]) -> None:
    """Check that every part of a model has its folder: a tokenizer without files would load, and know no word.

    Args:
        folder: the folder of the model.
        index: its content as `read_index` returns it.

    Raises:
        RequestError: a part is missing.
    """
    missing = []
    for name, entry in index.items():
        is_part = isinstance(entry, list) and entry[:1] != [None] and not name.startswith("_")
        if is_part and not (folder / name).is_dir():
            missing.append(name)
    if missing:
        raise RequestError(
            f'the model in "{folder}" is not complete: its model_index.json names {", ".join(missing)}, '
            f"and there is no folder of that name. Copy or download the whole model again."
        )


def check_size(source: Source, size: tuple[int, int] | None, image: Path | None = None) -> None:
    """Check a size against the sides that a local model can draw.

    An embedded model draws only the size that it was trained on. A Stable Diffusion 3 has a table of positions, which
    limits the size. Nothing is known here of other models, whose pipelines check the size themselves.

    Args:
        source: the model.
        size: (width, height) in pixels; None stands for the size of `image`.
        image: the picture to start from.

    Raises:
        RequestError: the model cannot draw that size.
    """
    if source.path is None or source.kind == "checkpoint":
        return
    sides = _sides(source.path)
    if size is None and image is not None:
        size = image_size(image)
    if sides is None or size is None:
        return
    if source.kind == "embedded" and set(size) != {sides.trained}:
        raise RequestError(
            f"{source.name} draws {sides.trained}x{sides.trained} pixels only, got {size[0]}x{size[1]}; "
            f"leave --size out, or with --image give --size {sides.trained}."
        )
    check_multiple(size, sides.multiple)
    if max(size) > sides.largest:
        raise RequestError(
            f"this model draws sides of up to {sides.largest} pixels (its pos_embed_max_size), got {size[0]}x{size[1]}."
        )


def check_multiple(size: tuple[int, int], multiple: int) -> None:
    """Check that both sides are multiples of the pixels that one token covers.

    Raises:
        RequestError: one is not; the message has the closest size.
    """
    if any(side % multiple for side in size):
        nearest = "x".join(str(max(multiple, round(side / multiple) * multiple)) for side in size)
        raise RequestError(
            f"width and height have to be multiples of {multiple} for this model, got {size[0]}x{size[1]}; "
            f"the closest size is {nearest}."
        )


class _Sides(NamedTuple):
    """Sides in pixels that a Stable Diffusion 3 can draw."""

    trained: int
    multiple: int
    largest: int


def _sides(folder: Path) -> _Sides | None:
    """Read the possible sides from the configurations; None for another kind of model, or if they do not say."""
    denoiser = _config(folder, "transformer")
    decoder = _config(folder, "vae")
    if denoiser.get("_class_name") != "SD3Transformer2DModel":
        return None
    try:
        # Pixels per latent, as the pipeline computes it.
        latent = 2 ** (len(decoder["block_out_channels"]) - 1)
        patch = latent * denoiser["patch_size"]
        return _Sides(denoiser["sample_size"] * latent, patch, denoiser["pos_embed_max_size"] * patch)
    except (KeyError, TypeError):
        return None


def _config(folder: Path, part: str) -> dict[str, Any]:
    """Read the configuration of one part of a model; {} without one."""
    file = folder / part / "config.json"
    return _read_json(file) if file.is_file() else {}


def _read_json(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        reason = str(error).partition("\n")[0]
        raise RequestError(f'cannot read "{file}": {reason}') from error
