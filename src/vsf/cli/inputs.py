"""What the user wrote, as flags or in a config file, turned into the fields of a request."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from vsf.cli import index, method_grammar
from vsf.errors import RequestError
from vsf.generation import sources
from vsf.generation.negatives import parse_negatives
from vsf.generation.pictures import image_size
from vsf.generation.request import Lora, Request
from vsf.registry import Registry

PATHS = ("like", "config", "out", "image", "mask", "prompts")
SCHEDULE = ("start", "end", "curve", "over", "layers")
SIDES = {"size", "width", "height"}
FLAGS_ONLY = {"like", "config"}  # what has no place in a config file


def with_config(flags: Mapping[str, Any]) -> dict[str, Any]:
    """The flags that were given, over the entries of the config file that they name; flags win.

    `flags` holds every flag of the command, None (or nothing, for repeated ones) where it was left out.

    Raises:
        RequestError: the file cannot be read, or a path is given and empty.
        UnknownNameError: the file holds an entry that is not a flag of the command.
    """
    given = {name: value for name, value in flags.items() if value not in (None, [], ())}
    _check_paths(given)
    config = given.pop("config", None)
    if config is None:
        return given
    entries = _read_config(Path(config), [name for name in flags if name not in FLAGS_ONLY])
    _check_paths(entries)
    if SIDES & given.keys():  # the file's size, in the other spelling, is not a part of the flags' size
        entries = {name: value for name, value in entries.items() if name not in SIDES}
    return {**entries, **given}


def request_fields(given: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `vsf.generate.Request` from flags and config entries; knobs are gathered under `knobs`.

    Raises:
        RequestError: a size or a LoRA is not written as expected, or a strength has no image to act on.
        UnknownNameError, KnobError: no such method, or a knob in it that is not written as expected.
        PromptError: a weight of a negative is misspelt.
    """
    if "strength" in given and "image" not in given:
        raise RequestError("strength says how much of a picture to redraw; give the picture with --image.")
    every_knob = {knob for knobs in index.methods().values() for knob in knobs}
    fields: dict[str, Any] = {name: value for name, value in given.items() if name not in every_knob}
    knobs = {name: value for name, value in given.items() if name in every_knob}
    if isinstance(fields.get("method"), str):
        written = method_grammar.parse(fields["method"])
        knobs = {**written.pop("knobs"), **knobs}
        fields = {**written, **fields, "method": written["method"]}
    if knobs:
        fields["knobs"] = knobs
    if "negative" in fields:
        fields["negative"] = parse_negatives(fields["negative"])
    if schedule := {name: fields.pop(name) for name in SCHEDULE if name in fields}:
        fields["schedule"] = schedule
    if "mask" in fields:
        fields["mask"] = parse_mask(fields["mask"])
    if "width" in fields or "height" in fields:
        fields["size"] = _both_sides(fields)
    elif "size" in fields:
        fields["size"] = parse_size(fields["size"])
    if "image" in fields:
        fields["image"] = Path(str(fields["image"]))
    if "lora" in fields:
        specs = fields.pop("lora")
        fields["loras"] = tuple(parse_lora(spec) for spec in (specs if isinstance(specs, list) else [specs]))
    return fields


def parse_size(written: object) -> tuple[int, int]:
    """`64` or `512x768` (width first); a config file may also say [512, 768]."""
    text = "x".join(map(str, written)) if isinstance(written, list) else str(written)
    found = re.fullmatch(r"(\d+)(?:x(\d+))?", text.strip().lower())
    if not found:
        raise RequestError(f'size has to be a side or WIDTHxHEIGHT in pixels, such as 64 or 512x768, got "{text}".')
    return int(found[1]), int(found[2] or found[1])


def parse_numbers(name: str, written: object, *, whole: bool = False) -> list[float]:
    """Read numbers of a flag: `1,2,4`, or in a config file [1, 2, 4]. Nothing gives an empty list.

    Raises:
        RequestError: one is no number, or no whole one where that is asked for.
    """
    if written is None:
        return []
    pieces = written if isinstance(written, list) else str(written).split(",")
    try:
        return [int(str(piece)) if whole else float(str(piece)) for piece in pieces]
    except ValueError:
        kind = "whole numbers" if whole else "numbers"
        raise RequestError(f'--{name} has to be {kind} with commas between them, got "{written}".') from None


def parse_mask(written: object) -> Path | tuple[float, ...]:
    """`FILE`, or a box `left,top,right,bottom`; a config file may also say [0, 0, 0.5, 1]."""
    if isinstance(written, list):
        return tuple(written)
    edges = str(written).split(",")
    try:
        return Path(str(written)) if len(edges) == 1 else tuple(float(edge) for edge in edges)
    except ValueError:  # a file may have a comma in its name
        return Path(str(written))


def parse_lora(written: object) -> Lora:
    """`FILE` or `FILE:WEIGHT`."""
    text = str(written)
    file, colon, weight = text.rpartition(":")
    if not colon or Path(text).is_file() or weight.endswith(".safetensors"):
        return Lora(Path(text))
    try:
        return Lora(Path(file), float(weight))
    except ValueError as error:
        if isinstance(error, RequestError):
            raise
        raise RequestError(f'a LoRA has to be written FILE or FILE:WEIGHT, got "{text}".') from error


def check_model(fields: Mapping[str, Any]) -> None:
    """Refuse what can be seen without loading anything: a picture that is none, a model that is not there, or a size.

    Raises:
        RequestError: as told.
        UnknownNameError: a plain name that is not an embedded model's.
    """
    model, size, image = (fields.get(name, getattr(Request, name)) for name in ("model", "size", "image"))
    if image is not None and image.is_file():
        image_size(image)
    if not isinstance(model, str) or not model.strip():
        return  # the request says what is wrong with it
    source = sources.locate(model)
    if source.kind == "folder" and source.path is not None:
        sources.check_complete(source.path, sources.read_index(source.path))
    sources.check_size(source, size, image if image is not None and image.is_file() else None)


def oddities(request: Request, *, acts: bool) -> list[str]:
    """Say what is odd about a request and yet allowed; `acts` says that a method, a knob or a control was asked for."""
    notes = []
    negatives = request.wanted.negatives
    for text in negatives:
        if weighted := re.fullmatch(r"(.*\S)\s*:\s*(\d*\.?\d+)", text):
            notes.append(f'"{text}" is taken as text; for a weight write "({weighted[1]}:{weighted[2]})".')
    if acts and not negatives:
        notes.append(
            "there is no negative prompt, so the method and its knobs change nothing; give one with --negative."
        )
    return notes


def _both_sides(fields: dict[str, Any]) -> tuple[int, int]:
    """Take the width and the height out of fields."""
    if "size" in fields:
        raise RequestError("give the size with --size, or with --width and --height, not with both.")
    sides = [fields.pop(name, None) for name in ("width", "height")]
    if None in sides:
        raise RequestError("--width and --height go together; for a square picture, --size is enough.")
    return sides[0], sides[1]


def _check_paths(given: Mapping[str, Any]) -> None:
    for name in PATHS:
        if given.get(name) == "":
            raise RequestError(f"--{name} is empty; name a file, or leave it out.")


def _read_config(file: Path, allowed: Collection[str]) -> dict[str, Any]:
    try:
        entries = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f'cannot read the config file "{file}": {getattr(error, "strerror", error)}.') from error
    except tomllib.TOMLDecodeError as error:
        raise RequestError(f'the config file "{file}" is not valid TOML: {error}.') from error
    config = {name.replace("-", "_"): value for name, value in entries.items()}
    known = Registry("config entry", dict.fromkeys(allowed))
    for name in config:
        known[name]  # raises for the unknown, and suggests
    return config
