"""The flags that `vsf generate` and `vsf compare` share: the prompts, the model, the run, the limits of guidance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from vsf.cli.options import JSON_HELP, argument
from vsf.controls.schedule import Axis, Curve
from vsf.generation.request import DTYPES, OFFLOADS, SHORT_DTYPES, SUBJECT
from vsf.options import option

OUT_HELP = "A .png file, or a folder; a name with a dot in it is a folder if it ends in a slash, as in runs.v2/."
OUT_SPELLINGS = ("-o", "--output")
CONTROLS_PANEL = "When and where the negative acts"


@dataclass(frozen=True, kw_only=True)
class PromptOptions:
    """The prompt and the negative prompt.

    Here and in the other options of a request, None stands for a flag that was left out, and a value from a config file
    may be of any type that TOML has: `Request` checks them all.
    """

    prompt: str | None = argument("What to draw; in it, '(red:1.3)' weighs a word and '(wheels:-1.2)' is a negative.")
    negative: list[str] | None = option(
        "What to keep out of the picture; may be repeated, and weighted: 'wheels' '(lights:0.5)'.",
        metavar="TEXT|(TEXT:WEIGHT)",
        also=("-n", "--negative-prompt"),
    )


@dataclass(frozen=True, kw_only=True)
class DrawingOptions:
    """The model, the run, and the controls of the guidance."""

    model: str | None = option(
        "An embedded model, a diffusers folder, a .safetensors checkpoint or a hub id (id@revision)."
    )
    steps: int | None = option("Denoising steps.")
    guidance_scale: float | None = option("Classifier-free guidance of the pipeline itself; up to 1 is off.")
    seed: int | None = option("Seed of the first image; image i has seed + i.")
    count: int | None = option("How many images.")
    size: str | None = option("Side, or WIDTHxHEIGHT, in pixels: 64 or 512x768. Left to the model if not given.")
    width: int | None = option("Width in pixels, together with --height.")
    height: int | None = option("Height in pixels, together with --width.")
    lora: list[str] | None = option("A LoRA, may be repeated.", metavar="FILE[:WEIGHT]")
    image: str | None = option("Start from this picture instead of noise.", metavar="FILE")
    strength: float | None = option("With --image: how much of it to redraw, 0 to 1.")
    dtype: str | None = option(f"One of {', '.join(DTYPES)}; short: {', '.join(SHORT_DTYPES)}.")
    device: str | None = option("cpu, cuda, cuda:1, mps, or auto.")
    offload: str | None = option(f"What to keep off the GPU while it is not needed: {', '.join(OFFLOADS)}.")
    within: str | None = option(
        "What the negative belongs to, as in 'a red car with {}'; subject: what the prompt is about.",
        metavar=f"TEXT|{SUBJECT}",
        rich_help_panel=CONTROLS_PANEL,
    )
    start: float | None = option("Fraction of the run at which guidance starts.", rich_help_panel=CONTROLS_PANEL)
    end: float | None = option("Fraction of the run at which guidance stops.", rich_help_panel=CONTROLS_PANEL)
    curve: str | None = option(f"Between: {', '.join(get_args(Curve))}.", rich_help_panel=CONTROLS_PANEL)
    over: str | None = option(
        f"Whether start and end count steps or noise: {', '.join(get_args(Axis))}.",
        rich_help_panel=CONTROLS_PANEL,
    )
    layers: str | None = option(
        "Attention layers, counted from 0, as in 0-11,14. All if not given.", rich_help_panel=CONTROLS_PANEL
    )
    mask: str | None = option(
        "A picture, white where it acts, or a box in parts of width and height: 0,0,.5,1 is the left half.",
        metavar="FILE|LEFT,TOP,RIGHT,BOTTOM",
        rich_help_panel=CONTROLS_PANEL,
    )
    config: str | None = option("A TOML file with the same keys as these flags; flags win.", metavar="FILE")
    json: bool = option(JSON_HELP, default=False)
