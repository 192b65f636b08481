"""The flags of the commands: one table, and one flag more for every knob that a method declares."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from inspect import Parameter, Signature
from typing import Any, cast, get_args

import typer

from vsf.cli import index
from vsf.cli.index import Knob
from vsf.controls.schedule import Axis, Curve, Schedule
from vsf.generation.request import DTYPES, OFFLOADS, SHORT_DTYPES, SUBJECT, Request

PROMPTED = "What to draw; in it, '(red:1.3)' weighs a word and '(wheels:-1.2)' is a negative."
OUT = "A .png file, or a folder; a name with a dot in it is a folder if it ends in a slash, as in runs.v2/."


def out_flag(default: str) -> Parameter:
    """Declare where the results go."""
    return flag("out", str, OUT, default=default, also=("-o", "--output"))


def flag(name: str, kind: Any, text: str, **settings: Any) -> Parameter:
    """Declare one optional flag; one that is left out is None, so that a config file or a default can speak.

    Of the settings, `spelled` replaces how the flag is written, and `also` adds other spellings; the rest is typer's.
    """
    default = settings.pop("default", getattr(Request, name, None))
    shown = f"{text} (default {default})" if default not in (None, "") else text
    spelled = settings.pop("spelled", "--" + name.replace("_", "-"))
    option = typer.Option(None, spelled, *settings.pop("also", ()), help=shown, **settings)
    return Parameter(name, Parameter.KEYWORD_ONLY, default=option, annotation=kind | None)


PROMPT = Parameter("prompt", Parameter.KEYWORD_ONLY, default=typer.Argument(None, help=PROMPTED), annotation=str | None)
MARKDOWN = flag("markdown", bool, "Print a Markdown table.", spelled="--markdown")
JSON = flag("json", bool, "Print one JSON document, and no progress.", spelled="--json")
NEGATIVE = flag(
    "negative",
    list[str],
    "What to keep out of the picture; may be repeated, and weighted: 'wheels' '(lights:0.5)'.",
    metavar="TEXT|(TEXT:WEIGHT)",
    default=None,
    also=("-n", "--negative-prompt"),
)
PRESET = flag(
    "preset",
    str,
    f"Knobs made for the model: {', '.join(index.preset_names())}; a knob's own flag wins; see vsf list presets.",
)
ALWAYS, WHEN = Schedule(), "When and where the negative acts"
CONTROLS = [
    flag(
        "within",
        str,
        "What the negative belongs to, as in 'a red car with {}'; subject: what the prompt is about.",
        metavar=f"TEXT|{SUBJECT}",
        rich_help_panel=WHEN,
    ),
    flag("start", float, "Part of the run done before it acts.", default=ALWAYS.start, rich_help_panel=WHEN),
    flag("end", float, "Part of the run done when it stops.", default=ALWAYS.end, rich_help_panel=WHEN),
    flag("curve", str, f"Between: {', '.join(get_args(Curve))}.", default=ALWAYS.curve, rich_help_panel=WHEN),
    flag("over", str, f"What parts are of: {', '.join(get_args(Axis))}.", default=ALWAYS.over, rich_help_panel=WHEN),
    flag("layers", str, "Attention layers, counted from 0, as in 0-11,14. All if not given.", rich_help_panel=WHEN),
    flag(
        "mask",
        str,
        "A picture, white where it acts, or a box in parts of width and height: 0,0,.5,1 is the left half.",
        metavar="FILE|LEFT,TOP,RIGHT,BOTTOM",
        rich_help_panel=WHEN,
    ),
]
SHARED = [
    flag("model", str, "An embedded model, a diffusers folder, a .safetensors checkpoint or a hub id (id@revision)."),
    flag("steps", int, "Denoising steps."),
    flag("guidance_scale", float, "Classifier-free guidance of the pipeline itself; up to 1 is off."),
    flag("seed", int, "Seed of the first image; image i has seed + i."),
    flag("count", int, "How many images."),
    flag("size", str, "Side, or WIDTHxHEIGHT, in pixels: 64 or 512x768. Left to the model if not given."),
    flag("width", int, "Width in pixels, together with --height."),
    flag("height", int, "Height in pixels, together with --width."),
    flag("lora", list[str], "A LoRA, may be repeated.", metavar="FILE[:WEIGHT]"),
    flag("image", str, "Start from this picture instead of noise.", metavar="FILE"),
    flag("strength", float, "With --image: how much of it to redraw, 0 to 1."),
    flag("dtype", str, f"One of {', '.join(DTYPES)}; short: {', '.join(SHORT_DTYPES)}."),
    flag("device", str, "cpu, cuda, cuda:1, mps, or auto."),
    flag("offload", str, f"What to keep off the GPU while it is not needed: {', '.join(OFFLOADS)}."),
    *CONTROLS,
    flag("config", str, "A TOML file with the same keys as these flags; flags win.", metavar="FILE"),
    JSON,
]


def knob_flags() -> list[Parameter]:
    """One flag for every knob of every method, with the help that the method declares."""
    owners: dict[str, list[tuple[str, Knob]]] = {}
    for method, knobs in index.methods().items():
        for knob in knobs.values():
            owners.setdefault(knob.name, []).append((method, knob))
    return [_knob_flag(name, found) for name, found in owners.items()]


def _knob_flag(name: str, owners: list[tuple[str, Knob]]) -> Parameter:
    knob = owners[0][1]
    text = " ".join(f"{method}: {knob.help} ({allowed(knob)})" for method, knob in owners)
    settings: dict[str, Any] = {"default": None, "rich_help_panel": "Knobs of the methods"}
    if isinstance(knob.default, bool):
        return flag(name, bool, text, spelled=f"--{name}/--no-{name}".replace("_", "-"), **settings)
    if knob.takes_auto:
        return flag(name, str, text, parser=number_or_auto, metavar="NUMBER|auto", **settings)
    return flag(name, str if knob.choices else float, text, **settings)


def number_or_auto(text: str) -> float | str:
    """Read a knob that may be left to each step. Raises ValueError for neither."""
    return text if text == "auto" else float(text)


def allowed(knob: Any) -> str:
    """Write the values that a knob takes, of `vsf.guidance` or of the index, and its default."""
    values = ", ".join(map(spelled, knob.choices)) if knob.choices else f"{knob.low:g} to {knob.high:g}"
    values += ", or auto" if knob.takes_auto else ""
    return f"{values}; default {spelled(knob.default)}"


def spelled(value: object) -> str:
    """A value of a knob as it is written on the command line."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def takes(parameters: Iterable[Parameter]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command that is called with keywords the flags that typer shall parse for it."""

    def give(function: Callable[..., None]) -> Callable[..., None]:
        cast(Any, function).__signature__ = Signature(list(parameters))
        return function

    return give
