"""What the user wrote, as flags or in a config file, turned into the fields of a request."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from vsf import guidance, tiny
from vsf.cli.options import number_or_auto
from vsf.errors import KnobError, RequestError
from vsf.generate import Lora, Request
from vsf.generate.negatives import parse_negatives
from vsf.guidance import Knob
from vsf.registry import Registry

PATHS = ("like", "config", "out", "image", "mask")
SCHEDULE = ("start", "end", "curve", "over", "layers")
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
    return {**entries, **given}


def request_fields(given: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `vsf.generate.Request` from flags and config entries; knobs are gathered under `knobs`.

    Raises:
        RequestError: a size or a LoRA is not written as expected, or a strength has no image to act on.
        PromptError: a weight of a negative is misspelt.
    """
    if "strength" in given and "image" not in given:
        raise RequestError("strength says how much of a picture to redraw; give the picture with --image.")
    every_knob = {knob.name for cls in guidance.METHODS.values() for knob in guidance.knobs(cls)}
    fields: dict[str, Any] = {name: value for name, value in given.items() if name not in every_knob}
    knobs = {name: value for name, value in given.items() if name in every_knob}
    if knobs:
        fields["knobs"] = knobs
    if "negative" in fields:
        fields["negative"] = parse_negatives(fields["negative"])
    if schedule := {name: fields.pop(name) for name in SCHEDULE if name in fields}:
        fields["schedule"] = schedule
    if "mask" in fields:
        fields["mask"] = parse_mask(fields["mask"])
    if "size" in fields:
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


def parse_mask(written: object) -> Path | tuple[float, ...]:
    """`FILE`, or a box `left,top,right,bottom`; a config file may also say [0, 0, 0.5, 1]."""
    if isinstance(written, list):
        return tuple(written)
    edges = str(written).split(",")
    try:
        return Path(str(written)) if len(edges) == 1 else tuple(float(edge) for edge in edges)
    except ValueError:  # a file may have a comma in its name
        return Path(str(written))


def parse_list(written: object) -> list[str]:
    """`a,b`, or in a config file ["a", "b"]."""
    return [str(entry).strip() for entry in (written if isinstance(written, list) else str(written).split(","))]


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


def parse_method(written: str) -> dict[str, Any]:
    """A method with knobs, `vsf:scale=2:offset=-.6`, as fields of a request; `preset=strong` may stand among them.

    Raises:
        UnknownNameError, KnobError: no such method or knob, or a value that is not of the knob's kind.
    """
    name, *settings = written.strip().split(":")
    known = {knob.name: knob for knob in guidance.knobs(guidance.METHODS[name])}
    knobs: dict[str, Any] = {}
    fields: dict[str, Any] = {"method": name, "knobs": knobs}
    for setting in settings:
        knob, equals, value = setting.partition("=")
        if not equals:
            raise KnobError(f'a knob has to be written name=value, got "{setting}" in "{written}".')
        if knob == "preset":
            fields["preset"] = value
        else:
            knobs[knob] = _knob_value(known[knob], value) if knob in known else value
    return fields


def oddities(request: Request, *, acts: bool) -> list[str]:
    """What is odd about a request and yet allowed; `acts` says that a method, a knob or a control was asked for."""
    found = []
    negatives = request.wanted.negatives
    for text in negatives:
        if weighted := re.fullmatch(r"(.*\S)\s*:\s*(\d*\.?\d+)", text):
            found.append(f'"{text}" is taken as text; for a weight write "({weighted[1]}:{weighted[2]})".')
    if words := _unknown_words(request):
        found.append(f"the model {request.model} does not know: {', '.join(words)}.")
    if acts and not negatives:
        found.append(
            "there is no negative prompt, so the method and its knobs change nothing; give one with --negative."
        )
    return found


def _unknown_words(request: Request) -> list[str]:
    """Words of either prompt that the embedded model was never taught; other models are not asked."""
    if request.model not in tiny.MODELS:
        return []
    words = re.findall(r"[^\W\d_]+", " ".join([request.wanted.positive, *request.wanted.negatives]).lower())
    return [word for word in dict.fromkeys(words) if word not in tiny.vocabulary()]


def _knob_value(knob: Knob, text: str) -> Any:
    try:
        if isinstance(knob.default, bool):
            return {"true": True, "false": False}[text.lower()]
        if knob.takes_auto:
            return number_or_auto(text)
        return text if isinstance(knob.default, str) else float(text)
    except (KeyError, ValueError) as error:
        kind = "true or false" if isinstance(knob.default, bool) else "a number"
        raise KnobError(f'{knob.name} has to be {kind}, got "{text}".') from error


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
