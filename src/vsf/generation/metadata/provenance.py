"""Pictures that say how they were made: metadata into a PNG file, and from it a request that repeats it."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsf._version import __version__
from vsf.controls.schedule import Schedule
from vsf.errors import RequestError
from vsf.generation.files import atomic_write, note_of
from vsf.generation.metadata import webui
from vsf.generation.metadata.hashes import hash_file
from vsf.generation.request import Lora, Request

if TYPE_CHECKING:
    from PIL.Image import Image

    from vsf.generation.models import Model

KEY = "vsf"  # the text chunk of the PNG file that holds everything; its value is JSON
PLAIN = ("prompt", "negative", "method", "steps", "guidance_scale")  # metadata that a request takes as it stands
MERGED = ("knobs", "schedule", "mask", "loras")  # fields of which a repeated picture keeps what is not given
TYPES: dict[str, Any] = {
    **dict.fromkeys(("vsf", "torch", "diffusers", "prompt", "method", "dtype", "device"), str),
    "negative": str | dict,
    **dict.fromkeys(("model", "revision", "weights", "image"), str | None),
    **dict.fromkeys(("seed", "steps"), int),
    "guidance_scale": int | float,
    "strength": int | float | None,
    "knobs": dict,
    "size": list,
    "loras": list,
    "schedule": dict | None,
    "mask": list | str | None,
    "frames": int | None,
    "within": str | None,
}
NO_PICTURE = {
    "sheet": "is a sheet of several pictures; vsf compare makes it again, not --like",
    "heat map": "is a heat map; --like wants the picture beside it",
}


def describe(request: Request, model: Model, image: Image, seed: int) -> dict[str, Any]:
    """Everything needed to draw `image` again, except the files that are known by their hash alone."""

    method = request.guidance()
    knobs = method.knob_values()
    metadata: dict[str, Any] = {**versions()}
    metadata |= {name: getattr(request, name) for name in PLAIN}
    metadata |= {"knobs": knobs, "seed": seed, "size": list(image.size)}
    metadata |= {"dtype": str(model.pipe.dtype).removeprefix("torch."), "device": model.pipe.device.type}
    metadata |= {"model": None, "loras": [], **model.origin}
    assert isinstance(request.schedule, Schedule)
    if request.schedule != Schedule():
        metadata["schedule"] = asdict(request.schedule)
    if request.within:
        metadata["within"] = request.within
    if request.mask is not None:
        metadata["mask"] = hash_file(request.mask) if isinstance(request.mask, Path) else list(request.mask)
    if request.image is not None:
        metadata |= {"image": hash_file(request.image), "strength": request.strength}
    return metadata


def versions() -> dict[str, str]:
    """The packages that decide pixels, by name."""
    import diffusers
    import torch

    return {"vsf": __version__, "torch": str(torch.__version__), "diffusers": diffusers.__version__}


def write(file: Path, image: Image, metadata: Mapping[str, Any]) -> None:
    """Save as PNG: the file is there in full or not at all.

    Metadata of a picture, as from `describe`, are also written the way AUTOMATIC1111's web UI writes them, so that
    other tools can show them.

    Raises:
        RequestError: the file cannot be written.
    """
    from PIL.PngImagePlugin import PngInfo

    chunks = PngInfo()
    chunks.add_itxt(KEY, json.dumps(portable(metadata), ensure_ascii=False))
    if "prompt" in metadata:
        chunks.add_text(webui.KEY, webui.write(metadata))
    with atomic_write(file) as part:
        image.save(part, format="PNG", pnginfo=chunks)


def read(file: Path) -> dict[str, Any]:
    """Return the metadata of a picture or an MP4 clip that this package wrote.

    Raises:
        RequestError: no such file, not a PNG nor a clip, not one of ours, or its metadata is damaged.
    """
    file = Path(file)
    if file.suffix.lower() == ".mp4":
        return parse(file, _beside(file))
    text = text_chunks(file).get(KEY)
    if text is None:
        raise RequestError(f'"{file}" was not made by vsf: it carries no "{KEY}" metadata to repeat.')
    return parse(file, text)


def parse(file: Path, text: str) -> dict[str, Any]:
    """Return the metadata that stand in the text of a picture or clip; `file` is named in errors.

    Raises:
        RequestError: they are damaged, or belong to a sheet or heat map.
    """
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RequestError(f'the metadata of "{file}" is damaged: {error}.') from error
    if not isinstance(metadata, dict):
        raise RequestError(f'the metadata of "{file}" is damaged: expected a JSON object.')
    for kind, advice in NO_PICTURE.items():
        if kind in metadata:
            raise RequestError(f'"{file}" {advice}.')
    if wrong := [*_wrong(metadata)]:
        raise RequestError(f'the metadata of "{file}" is damaged: {", ".join(wrong)} missing or of the wrong type.')
    return metadata


def _wrong(metadata: Mapping[str, Any]) -> Iterator[str]:
    """Name the entries that are not what `describe` writes."""
    yield from (name for name, kind in TYPES.items() if not isinstance(metadata.get(name), kind))
    loras = metadata.get("loras")
    for lora in loras if isinstance(loras, list) else []:
        weighted = isinstance(lora, dict) and isinstance(lora.get("weight"), int | float)
        if not weighted or not isinstance(lora.get("sha256"), str):
            yield "loras"
    if "image" in metadata and metadata["image"] is None:
        yield "image"
    if "image" in metadata and metadata.get("strength") is None:
        yield "strength"


def text_chunks(picture: Path) -> dict[str, str]:
    """Return the text chunks of a PNG picture by their keys.

    Raises:
        RequestError: the file cannot be read, or is no PNG picture.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(picture, formats=["PNG"]) as image:
            chunks = image.text  # type: ignore[attr-defined]
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise RequestError(f'cannot read "{picture}" as a PNG picture.') from error
    return {key: str(text) for key, text in chunks.items()}


def _beside(clip: Path) -> str:
    note = note_of(clip)
    try:
        return note.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f'how "{clip}" was made stands in "{note.name}" beside it, which cannot be read.') from error


def repeat(metadata: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the request that made a picture, with the fields `given` in their place.

    Weights, LoRAs, masks and starting images are known by hash: they have to be given again.

    Raises:
        RequestError: one of them is missing, or it is not the file that was used.
    """
    fields = {name: metadata[name] for name in (*PLAIN, "seed", "dtype", "device")}
    fields |= {"size": tuple(metadata["size"]), "model": _model(metadata, given)}
    same_method = given.get("method", metadata["method"]) == metadata["method"]
    knobs = _from_portable(metadata["knobs"]) if same_method and "preset" not in given else {}
    fields["knobs"] = {**knobs, **given.get("knobs", {})}
    fields["schedule"] = {**(metadata.get("schedule") or {}), **given.get("schedule", {})}
    fields["mask"] = _mask(metadata.get("mask"), given.get("mask"))
    fields["frames"] = metadata.get("frames")
    fields["within"] = metadata.get("within") or ""
    fields["loras"] = _loras(metadata["loras"], given.get("loras"))
    if "image" in metadata:
        fields |= {"image": _image(metadata["image"], given.get("image")), "strength": metadata["strength"]}
    return {**fields, **{name: value for name, value in given.items() if name not in MERGED}}


def check_weights(metadata: Mapping[str, Any], given: Mapping[str, Any], model: Model) -> None:
    """Raise RequestError unless the loaded weights are those that made the picture, by hash or by revision.

    A model that the picture names and `given` replaces is a wish, not a mistake, and is not compared.
    """
    asked_otherwise = "model" in given and metadata.get("model") not in (None, given["model"])
    for what in ("weights", "revision"):
        wanted, loaded = metadata.get(what), model.origin.get(what)
        if wanted is not None and wanted != loaded and not asked_otherwise:
            raise RequestError(
                f"these are not the weights that made the picture: it wants {wanted[:12]}..., the model has "
                f"{loaded[:12] + '...' if loaded else 'no hash'}. Give the same model, or drop --like."
            )


def doubts(metadata: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """Why repeating a picture may not give its pixels, though nothing speaks against trying."""
    found = []
    here = versions()
    if other := [name for name in here if metadata[name] != here[name]]:
        then, now = (", ".join(f"{name} {source[name]}" for name in other) for source in (metadata, here))
        found.append(f"the picture was made by {then}; this is {now}; pixels may differ.")
    if metadata.get("model") is None and metadata.get("weights") is None:
        found.append(f'the picture does not say which model made it; whether it was "{given["model"]}" is not known.')
    return found


def _model(metadata: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    if "model" in given:
        return str(given["model"])
    name, revision = metadata.get("model"), metadata.get("revision")
    if name is None:
        raise RequestError(
            "the picture does not name its model, only the hash of its weights if any; "
            "give the folder or file again with --model."
        )
    return f"{name}@{revision}" if revision else str(name)


def _loras(wanted: list[dict[str, Any]], given: tuple[Lora, ...] | None) -> tuple[Lora, ...]:
    """The LoRAs given, checked by hash against those wanted; a weight left out is the one that was used."""
    if not wanted:
        return given or ()
    if given is None or [hash_file(lora.file) for lora in given] != [lora["sha256"] for lora in wanted]:
        hashes = ", ".join(lora["sha256"][:12] + "..." for lora in wanted)
        raise RequestError(f"the picture was made with the LoRA files of sha256 {hashes}; give them with --lora.")
    return tuple(
        replace(lora, weight=was["weight"]) if lora.weight is None else lora
        for lora, was in zip(given, wanted, strict=True)
    )


def _mask(wanted: list[float] | str | None, given: Path | tuple[float, ...] | None) -> Any:
    """The box or file given, or the box that was used; a file that was used is known by its hash alone."""
    if isinstance(wanted, str) and (given is None or (isinstance(given, Path) and _hash(given) != wanted)):
        raise RequestError(f"the picture was made with the mask of sha256 {wanted[:12]}...; give it with --mask.")
    return wanted if given is None else given


def _image(wanted: str, given: Path | None) -> Path:
    if given is None or _hash(given) != wanted:
        raise RequestError(f"the picture started from the image of sha256 {wanted[:12]}...; give it with --image.")
    return given


def _hash(file: Path) -> str | None:
    return hash_file(file) if os.path.isfile(file) else None


def portable(value: Any) -> Any:
    """The same value without numbers that JSON lacks: infinity becomes "inf"."""
    if isinstance(value, Mapping):
        return {name: portable(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [portable(entry) for entry in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _from_portable(knobs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: float(value) if value in ("inf", "-inf", "nan") else value for name, value in knobs.items()}
