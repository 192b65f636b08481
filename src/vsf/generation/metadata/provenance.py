"""Provenance: write a picture's metadata into its PNG file, and turn them back into a request that repeats it."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any

from vsf._version import __version__
from vsf.controls.schedule import Schedule
from vsf.errors import RequestError
from vsf.generation.files import atomic_write, sidecar
from vsf.generation.metadata import Metadata, webui
from vsf.generation.metadata.hashes import hash_file
from vsf.generation.request import Arguments, Lora, Request

if TYPE_CHECKING:
    from PIL.Image import Image

    from vsf.generation.models import Model
    from vsf.text.prompt import Prompt

KEY = "vsf"  # the text chunk of the PNG file that holds everything; its value is JSON
# Entries that a request takes unchanged.
PLAIN = ("prompt", "negative", "method", "steps", "guidance_scale")
MERGED = ("knobs", "schedule", "mask", "loras")  # arguments that `repeat` merges itself
CLIP_RANGES = ("seconds", "frame_range")
TYPES: dict[str, type | UnionType] = {
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
    **dict.fromkeys(CLIP_RANGES, list | None),
    "negative_sound": str | dict | None,
    "sound_strength": int | float | None,
}
NO_PICTURE = {
    "sheet": "is a sheet of several pictures; vsf compare makes it again, not --like",
    "heat map": "is a heat map; --like wants the picture beside it",
}
"""Entries that mark other kinds of image, with the advice given for each."""


def describe(request: Request, model: Model, image: Image, seed: int) -> dict[str, Any]:
    """Return everything needed to draw an image again; input files are recorded by their hash only."""
    assert isinstance(request.schedule, Schedule)
    metadata: dict[str, Any] = {**versions()}
    metadata |= {name: getattr(request, name) for name in PLAIN}
    # The caller's own text, or the spelling of a Prompt.
    metadata["prompt"] = str(request.prompt)
    metadata |= {"knobs": request.guidance().knob_values(), "seed": seed, "size": list(image.size)}
    metadata |= {"dtype": str(model.pipe.dtype).removeprefix("torch."), "device": model.pipe.device.type}
    metadata |= {"model": None, "loras": [], **model.origin}
    if request.schedule != Schedule():
        metadata["schedule"] = asdict(request.schedule)
    if request.within:
        metadata["within"] = request.within
    for name in CLIP_RANGES:
        if (limits := getattr(request, name)) is not None:
            metadata[name] = list(limits)
    if request.negative_sound is not None:
        metadata["negative_sound"] = request.negative_sound
    if request.sound_strength != 1:
        metadata["sound_strength"] = request.sound_strength
    if request.mask is not None:
        metadata["mask"] = hash_file(request.mask) if isinstance(request.mask, Path) else list(request.mask)
    if request.image is not None:
        metadata |= {"image": hash_file(request.image), "strength": request.strength}
    return metadata


def versions() -> dict[str, str]:
    """Return the versions of the packages that decide pixels."""
    import diffusers
    import torch

    return {"vsf": __version__, "torch": str(torch.__version__), "diffusers": diffusers.__version__}


def write(file: Path, image: Image, metadata: Metadata, prompt: Prompt | None = None) -> None:
    """Save an image as PNG with its metadata, atomically.

    Metadata of a picture, as from `describe`, are also written in the format of AUTOMATIC1111's web UI, so that other
    tools can show them.

    Args:
        file: where to save it.
        image: the image.
        metadata: as from `describe`, or of another kind of image.
        prompt: the prompt of these metadata with all its negatives; parsed from them if not given.

    Raises:
        RequestError: the file cannot be written.
    """
    from PIL.PngImagePlugin import PngInfo

    chunks = PngInfo()
    # An iTXt chunk is UTF-8. Other tools look for a tEXt chunk, which Pillow replaces by iTXt for text beyond Latin-1.
    chunks.add_itxt(KEY, json.dumps(portable(metadata), ensure_ascii=False))
    if "prompt" in metadata:
        chunks.add_text(webui.KEY, webui.write(metadata, prompt))
    with atomic_write(file) as part:
        image.save(part, format="PNG", pnginfo=chunks)


def read(file: Path) -> dict[str, Any]:
    """Return the metadata of a picture or an MP4 clip that this package wrote.

    Raises:
        RequestError: the file does not exist, is neither a PNG nor a clip, was not made by this package, or has damaged
            metadata.
    """
    file = Path(file)
    if file.suffix.lower() == ".mp4":
        return parse(file, _read_sidecar(file))
    text = text_chunks(file).get(KEY)
    if text is None:
        raise RequestError(f'"{file}" was not made by vsf: it carries no "{KEY}" metadata to repeat.')
    return parse(file, text)


def parse(file: Path, text: str) -> dict[str, Any]:
    """Parse and check the metadata in the text of a picture or clip; `file` is named in errors.

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
    if damaged := list(_damaged_entries(metadata)):
        raise RequestError(f'the metadata of "{file}" is damaged: {", ".join(damaged)} missing or of the wrong type.')
    return metadata


def _damaged_entries(metadata: Metadata) -> Iterator[str]:
    """Yield the names of entries that `describe` would not have written."""
    for name, kind in TYPES.items():
        if not isinstance(metadata.get(name), kind):
            yield name
    loras = metadata.get("loras")
    for lora in loras if isinstance(loras, list) else []:
        has_weight = isinstance(lora, dict) and isinstance(lora.get("weight"), int | float)
        if not has_weight or not isinstance(lora.get("sha256"), str):
            yield "loras"
    if "image" in metadata and metadata["image"] is None:
        yield "image"
    if "image" in metadata and metadata.get("strength") is None:
        yield "strength"


def text_chunks(picture: Path) -> dict[str, str]:
    """Return the text chunks of a PNG picture by key.

    Raises:
        RequestError: the file cannot be read, or is not a PNG picture.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(picture, formats=["PNG"]) as image:
            chunks = image.text  # type: ignore[attr-defined]
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise RequestError(f'cannot read "{picture}" as a PNG picture.') from error
    return {key: str(text) for key, text in chunks.items()}


def _read_sidecar(clip: Path) -> str:
    file = sidecar(clip)
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f'how "{clip}" was made stands in "{file.name}" beside it, which cannot be read.') from error


def repeat(metadata: Metadata, given: Arguments) -> dict[str, Any]:
    """Return the arguments of the request that made a picture.

    Local weights, LoRAs, masks and start images are recorded by hash only: they have to be given again.

    Args:
        metadata: of the picture.
        given: arguments that replace single ones of the picture.

    Raises:
        RequestError: a file is missing, or is not the one that was used.
    """
    arguments = {name: metadata[name] for name in (*PLAIN, "seed", "dtype", "device")}
    arguments |= {"size": tuple(metadata["size"]), "model": _model(metadata, given)}
    same_method = given.get("method", metadata["method"]) == metadata["method"]
    knobs = _from_portable(metadata["knobs"]) if same_method and "preset" not in given else {}
    arguments["knobs"] = {**knobs, **given.get("knobs", {})}
    arguments["schedule"] = {**(metadata.get("schedule") or {}), **given.get("schedule", {})}
    arguments["mask"] = _mask(metadata.get("mask"), given.get("mask"))
    arguments["frames"] = metadata.get("frames")
    arguments["within"] = metadata.get("within") or ""
    for name in CLIP_RANGES:
        arguments[name] = tuple(metadata[name]) if metadata.get(name) is not None else None
    arguments["negative_sound"] = metadata.get("negative_sound")
    arguments["sound_strength"] = metadata.get("sound_strength", 1.0)
    arguments["loras"] = _loras(metadata["loras"], given.get("loras"))
    if "image" in metadata:
        arguments |= {"image": _image(metadata["image"], given.get("image")), "strength": metadata["strength"]}
    for name, value in given.items():
        if name not in MERGED:
            arguments[name] = value
    return arguments


def check_weights(metadata: Metadata, given: Arguments, model: Model) -> None:
    """Check the loaded weights against those that made the picture, by hash or revision.

    They are not compared if the picture names its model and `given` asks for another, which is a wish, not a mistake.

    Raises:
        RequestError: the weights differ.
    """
    if "model" in given and metadata.get("model") not in (None, given["model"]):
        return
    for name in ("weights", "revision"):
        recorded = metadata.get(name)
        loaded = model.origin.get(name)
        if recorded is not None and recorded != loaded:
            raise RequestError(
                f"these are not the weights that made the picture: it wants {recorded[:12]}..., the model has "
                f"{loaded[:12] + '...' if loaded else 'no hash'}. Give the same model, or drop --like."
            )


def reproduction_warnings(metadata: Metadata, given: Arguments) -> list[str]:
    """Return the reasons why repeating a picture may not give the same pixels, though it can be tried."""
    warnings = []
    installed = versions()
    changed = [name for name in installed if metadata[name] != installed[name]]
    if changed:
        recorded_text = ", ".join(f"{name} {metadata[name]}" for name in changed)
        installed_text = ", ".join(f"{name} {installed[name]}" for name in changed)
        warnings.append(f"the picture was made by {recorded_text}; this is {installed_text}; pixels may differ.")
    if metadata.get("model") is None and metadata.get("weights") is None:
        warnings.append(
            f'the picture does not say which model made it; whether it was "{given["model"]}" is not known.'
        )
    return warnings


def _model(metadata: Metadata, given: Arguments) -> str:
    if "model" in given:
        return str(given["model"])
    name = metadata.get("model")
    revision = metadata.get("revision")
    if name is None:
        raise RequestError(
            "the picture does not name its model, only the hash of its weights if any; "
            "give the folder or file again with --model."
        )
    return f"{name}@{revision}" if revision else str(name)


def _loras(recorded: list[dict[str, Any]], given: tuple[Lora, ...] | None) -> tuple[Lora, ...]:
    """Return the given LoRAs, checked against the recorded hashes, with the recorded weights for those without one."""
    if not recorded:
        return given or ()
    recorded_hashes = [entry["sha256"] for entry in recorded]
    if given is None or [hash_file(lora.file) for lora in given] != recorded_hashes:
        hashes = ", ".join(f"{digest[:12]}..." for digest in recorded_hashes)
        raise RequestError(f"the picture was made with the LoRA files of sha256 {hashes}; give them with --lora.")
    loras = []
    for lora, entry in zip(given, recorded, strict=True):
        loras.append(replace(lora, weight=entry["weight"]) if lora.weight is None else lora)
    return tuple(loras)


def _mask(
    recorded: list[float] | str | None, given: Path | tuple[float, ...] | None
) -> Path | tuple[float, ...] | list[float] | None:
    """Return the given mask, or the recorded box; a recorded file, of which only the hash is known, has to be given."""
    if isinstance(recorded, str):
        is_another_file = isinstance(given, Path) and _hash(given) != recorded
        if given is None or is_another_file:
            raise RequestError(f"the picture was made with the mask of sha256 {recorded[:12]}...; give it with --mask.")
        return given
    return recorded if given is None else given


def _image(recorded: str, given: Path | None) -> Path:
    if given is None or _hash(given) != recorded:
        raise RequestError(f"the picture started from the image of sha256 {recorded[:12]}...; give it with --image.")
    return given


def _hash(file: Path) -> str | None:
    """Return the hash of a file, None without one."""
    # Path.is_file() raises for a name that is too long.
    return hash_file(file) if os.path.isfile(file) else None


def portable(value: Any) -> Any:
    """Return a value without numbers that JSON lacks: infinity becomes "inf"."""
    if isinstance(value, Mapping):
        return {name: portable(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [portable(entry) for entry in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _from_portable(knobs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: float(value) if value in ("inf", "-inf", "nan") else value for name, value in knobs.items()}
