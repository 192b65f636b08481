"""Turn the options of a command, from flags or a config file, into the arguments of a request."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from vsf.cli import method_grammar
from vsf.cli.drawing_options import DrawingOptions
from vsf.errors import RequestError
from vsf.generation import sources
from vsf.generation.negatives import parse_negatives
from vsf.generation.pictures import image_size
from vsf.generation.request import SCHEDULE, Arguments, Lora, Request

REQUEST_OPTIONS = {*(field.name for field in fields(Request)), *SCHEDULE, "width", "height", "lora"}
"""Options that become arguments of a request, or parts of them."""


def request_arguments(options: DrawingOptions) -> dict[str, Any]:
    """Return the arguments of `Request` that were given.

    Raises:
        RequestError: a size or a LoRA is misspelt, or a strength has no image to act on.
        UnknownNameError, KnobError: there is no such method, or one of the knobs written after it is misspelt.
        PromptError: a weight of a negative is misspelt.
    """
    arguments: dict[str, Any] = {}
    for declared in fields(options):
        value = getattr(options, declared.name)
        if declared.name in REQUEST_OPTIONS and value is not None:
            arguments[declared.name] = value
    if "strength" in arguments and "image" not in arguments:
        raise RequestError("strength says how much of a picture to redraw; give the picture with --image.")
    knobs = arguments.pop("knobs", {})
    if isinstance(arguments.get("method"), str):
        spec = method_grammar.parse(arguments["method"])
        knobs = {**spec.pop("knobs"), **knobs}
        # --preset wins over one in the method's spec.
        arguments = {**spec, **arguments, "method": spec["method"]}
    if knobs:
        arguments["knobs"] = knobs
    if "negative" in arguments:
        arguments["negative"] = parse_negatives(arguments["negative"])
    schedule = {}
    for name in SCHEDULE:
        if name in arguments:
            schedule[name] = arguments.pop(name)
    if schedule:
        arguments["schedule"] = schedule
    if "negative_sound" in arguments:
        arguments["negative_sound"] = parse_negatives(arguments["negative_sound"])
    for name, number in (("seconds", float), ("frame_range", int)):
        if name in arguments:
            arguments[name] = parse_range(name, arguments[name], number)
    if "mask" in arguments:
        arguments["mask"] = parse_mask(arguments["mask"])
    if "width" in arguments or "height" in arguments:
        arguments["size"] = _size_of_sides(arguments)
    elif "size" in arguments:
        arguments["size"] = parse_size(arguments["size"])
    if "image" in arguments:
        arguments["image"] = Path(str(arguments["image"]))
    if "lora" in arguments:
        specs = arguments.pop("lora")
        # A config file may hold a single LoRA as text.
        arguments["loras"] = tuple(map(parse_lora, specs if isinstance(specs, list) else [specs]))
    return arguments


def parse_size(written: object) -> tuple[int, int]:
    """Parse `64` or `512x768` (width first); a config file may also hold [512, 768].

    Raises:
        RequestError: it is neither.
    """
    text = "x".join(map(str, written)) if isinstance(written, list) else str(written)
    sides = re.fullmatch(r"(\d+)(?:x(\d+))?", text.strip().lower())
    if not sides:
        raise RequestError(f'size has to be a side or WIDTHxHEIGHT in pixels, such as 64 or 512x768, got "{text}".')
    return int(sides[1]), int(sides[2] or sides[1])


def parse_numbers(name: str, written: object) -> list[float]:
    """Parse the numbers of a flag: `1,2,4`, or in a config file [1, 2, 4]; None gives an empty list.

    Raises:
        RequestError: one is not a number.
    """
    try:
        return list(map(float, _pieces(written)))
    except ValueError:
        raise RequestError(f'--{name} has to be numbers with commas between them, got "{written}".') from None


def parse_whole_numbers(name: str, written: object) -> list[int]:
    """Parse the whole numbers of a flag, as `parse_numbers` does.

    Raises:
        RequestError: one is not a whole number.
    """
    try:
        return list(map(int, _pieces(written)))
    except ValueError:
        raise RequestError(f'--{name} has to be whole numbers with commas between them, got "{written}".') from None


def _pieces(written: object) -> list[str]:
    if written is None:
        return []
    return list(map(str, written)) if isinstance(written, list) else str(written).split(",")


def parse_mask(written: object) -> Path | tuple[float, ...]:
    """Parse a file, or a box `left,top,right,bottom`; a config file may also hold [0, 0, 0.5, 1]."""
    if isinstance(written, list):
        return tuple(written)
    edges = str(written).split(",")
    try:
        return Path(str(written)) if len(edges) == 1 else tuple(map(float, edges))
    except ValueError:  # a file may have a comma in its name
        return Path(str(written))


def parse_range(name: str, written: object, number: Callable[[str], float]) -> tuple[float | None, float | None]:
    """Parse `2-4`, `2-` or `-4`; a config file may also hold [2, 4].

    Args:
        name: of the option, for the error.
        written: the text.
        number: reads each end, int or float.

    Raises:
        RequestError: it is none of these.
    """
    limits = list(map(str, written)) if isinstance(written, list) else str(written).split("-")
    try:
        start, stop = (number(limit) if limit.strip() else None for limit in limits)
    except ValueError:
        flag = name.replace("_", "-")
        raise RequestError(f'--{flag} has to be a start and an end, such as 2-4, 2- or -4, got "{written}".') from None
    return start, stop


def parse_lora(written: object) -> Lora:
    """Parse `FILE` or `FILE:WEIGHT`.

    Raises:
        RequestError: it is neither, or the file is not a LoRA.
    """
    text = str(written)
    file, colon, weight = text.rpartition(":")
    if not colon or Path(text).is_file() or weight.endswith(".safetensors"):
        return Lora(Path(text))
    try:
        return Lora(Path(file), float(weight))
    except RequestError:
        raise  # a ValueError, too
    except ValueError as error:
        raise RequestError(f'a LoRA has to be written FILE or FILE:WEIGHT, got "{text}".') from error


def check_model(given: Arguments) -> None:
    """Make the checks that need no torch: of the start image, the model's files and the size.

    Raises:
        RequestError: the image is not a picture, the model is missing or incomplete, or it cannot draw the size.
        UnknownNameError: a plain name that is not an embedded model's.
    """
    model = given.get("model", Request.model)
    size = given.get("size", Request.size)
    image = given.get("image", Request.image)
    has_image = image is not None and image.is_file()
    if has_image:
        image_size(image)  # raises for a file that is not a picture
    if not isinstance(model, str) or not model.strip():
        return  # `Request` says what is wrong with it
    source = sources.locate(model)
    if source.kind == "folder" and source.path is not None:
        sources.check_complete(source.path, sources.read_index(source.path))
    sources.check_size(source, size, image if has_image else None)


def warnings(request: Request, *, is_guided: bool) -> list[str]:
    """Return oddities of a request that are allowed, as sentences.

    Args:
        request: the request.
        is_guided: whether the user asked for a method, a knob or a control.
    """
    messages = []
    negatives = request.wanted.negatives
    for text in negatives:
        # A colon in plain text is legal, but people used to other tools mean a weight by it.
        if weighted := re.fullmatch(r"(.*\S)\s*:\s*(\d*\.?\d+)", text):
            messages.append(f'"{text}" is taken as text; for a weight write "({weighted[1]}:{weighted[2]})".')
    if is_guided and not negatives:
        messages.append(
            "there is no negative prompt, so the method and its knobs change nothing; give one with --negative."
        )
    return messages


def _size_of_sides(arguments: dict[str, Any]) -> tuple[int, int]:
    """Remove the width and the height from the arguments, and return them as a size."""
    if "size" in arguments:
        raise RequestError("give the size with --size, or with --width and --height, not with both.")
    width = arguments.pop("width", None)
    height = arguments.pop("height", None)
    if width is None or height is None:
        raise RequestError("--width and --height go together; for a square picture, --size is enough.")
    return width, height
