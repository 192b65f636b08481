"""Where a model comes from, told by its name and its settings alone, before anything is imported or loaded."""

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
    """A model by the kind of its name; `path` is its folder or file, None on the hub."""

    kind: Literal["embedded", "folder", "checkpoint", "hub"]
    name: str
    path: Path | None = None
    revision: str | None = None


def locate(name: str) -> Source:
    """Find out what a model's name means: an embedded model, a folder, a .safetensors checkpoint or a hub id.

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
    return Source("embedded", name, tiny.folder(name))  # raises for the unknown name, and suggests


def read_index(folder: Path) -> dict[str, Any]:
    """Return what a diffusers folder says it consists of.

    Raises:
        RequestError: the folder is no diffusers model, or its index cannot be read.
    """
    index = folder / "model_index.json"
    if not index.is_file():
        raise RequestError(f'"{folder}" is not a diffusers model: it has no model_index.json.')
    try:
        return dict(json.loads(index.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise RequestError(f'cannot read "{index}": {str(error).partition(chr(10))[0]}') from error


def check_complete(folder: Path, index: Mapping[str, Any]) -> None:
    """Raise RequestError for a model that is there in part; a tokenizer without its files would load, and know no word.

    folder, index: as `read_index` takes and returns them.
    """
    parts = [name for name, entry in index.items() if isinstance(entry, list) and entry[:1] != [None]]
    missing = [name for name in parts if not name.startswith("_") and not (folder / name).is_dir()]
    if missing:
        raise RequestError(
            f'the model in "{folder}" is not complete: its model_index.json names {", ".join(missing)}, '
            f"and there is no folder of that name. Copy or download the whole model again."
        )


def check_size(source: Source, size: tuple[int, int] | None, image: Path | None = None) -> None:
    """Raise RequestError for a size (width, height) that a model on this machine is known not to draw.

    Without a size it is that of the picture to start from, if there is one.

    An embedded model draws the one size that it was trained on. A Stable Diffusion 3 has a table of positions, which
    ends at some size. Nothing is known here of other models, whose pipelines speak for themselves.
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
    """Raise RequestError unless both sides are multiples of what one token of the model covers; says the closest."""
    if any(side % multiple for side in size):
        nearest = "x".join(str(max(multiple, round(side / multiple) * multiple)) for side in size)
        raise RequestError(
            f"width and height have to be multiples of {multiple} for this model, got {size[0]}x{size[1]}; "
            f"the closest size is {nearest}."
        )


class _Sides(NamedTuple):
    """Sides in pixels that a Stable Diffusion 3 draws: what it was trained on, the steps and the end of its table."""

    trained: int
    multiple: int
    largest: int


def _sides(folder: Path) -> _Sides | None:
    """Read them from the settings of the parts; None for another kind of model, or one whose settings do not say."""
    denoiser, decoder = _settings(folder, "transformer"), _settings(folder, "vae")
    if denoiser.get("_class_name") != "SD3Transformer2DModel":
        return None
    try:
        latent = 2 ** (len(decoder["block_out_channels"]) - 1)  # pixels to a side of one, as the pipeline computes it
        patch = latent * denoiser["patch_size"]
        return _Sides(denoiser["sample_size"] * latent, patch, denoiser["pos_embed_max_size"] * patch)
    except (KeyError, TypeError):
        return None


def _settings(folder: Path, part: str) -> dict[str, Any]:
    file = folder / part / "config.json"
    if not file.is_file():
        return {}
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise RequestError(f'cannot read "{file}": {str(error).partition(chr(10))[0]}') from error
