"""Pictures that say how they were made: metadata into a PNG file, and from it a request that repeats it."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import torch

import vsf
from vsf import guidance
from vsf.errors import RequestError
from vsf.generate.models import Model, hash_file
from vsf.generate.request import Lora, Request

if TYPE_CHECKING:
    from PIL.Image import Image

KEY = "vsf"  # the one text chunk of the PNG file; its value is JSON
PLAIN = ("prompt", "negative", "method", "steps", "guidance_scale")  # metadata that a request takes as it stands
TYPES: dict[str, Any] = {
    **dict.fromkeys(("vsf", "torch", "diffusers", "prompt", "negative", "method", "dtype", "device"), str),
    **dict.fromkeys(("model", "revision", "weights", "image"), str | None),
    **dict.fromkeys(("seed", "steps"), int),
    "guidance_scale": int | float,
    "strength": int | float | None,
    "knobs": dict,
    "size": list,
    "loras": list,
}


def describe(request: Request, model: Model, image: Image, seed: int) -> dict[str, Any]:
    """Everything needed to draw `image` again, except the files that are known by their hash alone."""
    method = request.guidance()
    knobs = {knob.name: getattr(method, knob.name) for knob in guidance.knobs(type(method))}
    metadata: dict[str, Any] = {**versions()}
    metadata |= {name: getattr(request, name) for name in PLAIN}
    metadata |= {"knobs": knobs, "seed": seed, "size": list(image.size)}
    metadata |= {"dtype": str(model.pipe.dtype).removeprefix("torch."), "device": model.pipe.device.type}
    metadata |= {"model": None, "loras": [], **model.origin}
    if request.image is not None:
        metadata |= {"image": hash_file(request.image), "strength": request.strength}
    return metadata


def versions() -> dict[str, str]:
    """The packages that decide pixels, by name."""
    import diffusers

    return {"vsf": vsf.__version__, "torch": str(torch.__version__), "diffusers": diffusers.__version__}


def write(file: Path, image: Image, metadata: Mapping[str, Any]) -> None:
    """Save as PNG: the file is there in full or not at all.

    Raises:
        RequestError: the file cannot be written.
    """
    from PIL.PngImagePlugin import PngInfo

    chunks = PngInfo()
    chunks.add_itxt(KEY, json.dumps(portable(metadata), ensure_ascii=False))
    part = file.with_name(f".{uuid4().hex}.part")  # short: a name derived from the file's could be too long
    try:
        image.save(part, format="PNG", pnginfo=chunks)
        part.replace(file)
    except OSError as error:
        raise RequestError(f'cannot write "{file}": {error.strerror or error}.') from error
    finally:
        with suppress(OSError):  # a part left over is worth less than the reason why the picture was not written
            part.unlink(missing_ok=True)


def read(file: Path) -> dict[str, Any]:
    """The metadata of a picture that this package wrote.

    Raises:
        RequestError: no such file, not a PNG, not one of ours, or its metadata is damaged.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file, formats=["PNG"]) as image:
            text = image.text.get(KEY)  # type: ignore[attr-defined]
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError) as error:
        raise RequestError(f'cannot read "{file}" as a PNG picture.') from error
    if text is None:
        raise RequestError(f'"{file}" was not made by vsf: it carries no "{KEY}" metadata to repeat.')
    try:
        metadata = json.loads(text)
        if "sheet" in metadata:
            raise RequestError(f'"{file}" is a sheet of several pictures; vsf compare makes it again, not --like.')
        wrong = [name for name, kind in TYPES.items() if not isinstance(metadata.get(name), kind)]
        wrong += ["loras" for lora in metadata["loras"] if not isinstance(lora["sha256"] + str(lora["weight"]), str)]
    except RequestError:
        raise
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise RequestError(f'the metadata of "{file}" is damaged: {error}.') from error
    if wrong:
        raise RequestError(f'the metadata of "{file}" is damaged: {", ".join(wrong)} missing or of the wrong type.')
    return dict(metadata)


def repeat(metadata: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the request that made a picture, with the fields `given` in their place.

    Weights, LoRAs and starting images are known by hash: they have to be given again.

    Raises:
        RequestError: one of them is missing, or it is not the file that was used.
    """
    fields = {name: metadata[name] for name in (*PLAIN, "seed", "dtype", "device")}
    fields |= {"size": tuple(metadata["size"]), "model": _model(metadata, given)}
    same_method = given.get("method", metadata["method"]) == metadata["method"]
    knobs = _from_portable(metadata["knobs"]) if same_method else {}
    fields["knobs"] = {**knobs, **given.get("knobs", {})}
    fields["loras"] = _loras(metadata["loras"], given.get("loras"))
    if "image" in metadata:
        fields |= {"image": _image(metadata["image"], given.get("image")), "strength": metadata["strength"]}
    return {**fields, **{name: value for name, value in given.items() if name not in ("knobs", "loras")}}


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


def _image(wanted: str, given: Path | None) -> Path:
    if given is None or not os.path.isfile(given) or hash_file(given) != wanted:
        raise RequestError(f"the picture started from the image of sha256 {wanted[:12]}...; give it with --image.")
    return given


def portable(value: Any) -> Any:
    """The same value without numbers that JSON lacks: infinity becomes "inf"."""
    if isinstance(value, Mapping):
        return {name: portable(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [portable(entry) for entry in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _from_portable(knobs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: float(value) if value in ("inf", "-inf", "nan") else value for name, value in knobs.items()}
