"""`vsf compare`: one sheet, one column per method, the same seeds in every column."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from vsf.cli import console, inputs, outputs
from vsf.cli.options import NEGATIVE, OUT, PROMPT, SHARED, flag, takes
from vsf.errors import RequestError
from vsf.generate import Model, Progress, Request, draw, provenance
from vsf.generate.negatives import spell
from vsf.generate.sheet import contact_sheet

if TYPE_CHECKING:
    from PIL.Image import Image

EXAMPLE = "vsf compare 'a red car on snow' --negative wheels --methods none,vsf,vsf:scale=3 --count 3 --out sheet.png"
METHODS = "none,vsf"
SHEET = "out/compare.png"
FLAGS = [
    PROMPT,
    NEGATIVE,
    flag(
        "methods",
        str,
        "Methods, with knobs or a preset: none,vsf:scale=2:offset=-.6,nag:preset=strong",
        default=METHODS,
    ),
    flag("out", str, OUT, default=SHEET),
    *SHARED,
]


@takes(FLAGS)
def command(**flags: Any) -> None:
    """Draw the same scene with several methods, on one labelled sheet."""
    quiet = bool(flags.pop("json"))
    given = inputs.with_config(flags)
    out = str(given.pop("out", SHEET))
    specs = inputs.parse_list(given.pop("methods", METHODS))
    fields = inputs.request_fields(given)
    if "prompt" not in fields:
        raise RequestError('no prompt: say what to draw, as in vsf compare "a red car" --negative wheels.')
    chosen = [inputs.parse_method(spec) for spec in specs]
    requests = [Request(**fields, **setting) for setting in chosen]
    (file,) = outputs.plan(out, 1, "compare")
    for oddity in inputs.oddities(requests[0], acts=any(setting["method"] != "none" for setting in chosen)):
        console.note(oddity)
    model = console.load_quietly(requests[0], quiet=quiet)
    sheet, cells = draw_sheet(requests, specs, model, quiet=quiet)
    provenance.write(file, sheet, {"sheet": cells})
    if quiet:
        console.print_json({"file": str(file), "cells": provenance.portable(cells)})
    else:
        console.stdout.print(f"{file}  ({len(cells)} pictures)", markup=False, soft_wrap=True)


def draw_sheet(
    requests: list[Request], labels: list[str], model: Model, *, quiet: bool
) -> tuple[Image, list[dict[str, Any]]]:
    """Draw requests that differ in their method alone; returns the sheet and the metadata of its pictures."""
    first = requests[0]
    images, cells = [], []
    with console.steps(len(requests) * first.count, quiet=quiet) as progress:
        for column, request in enumerate(requests):
            for result in draw(request, model, partial(_shifted, progress, column * first.count)):
                images.append(result.image)
                cells.append(result.metadata)
    wanted = first.wanted
    title = [wanted.positive, f"without: {spell(wanted.negatives)}" if wanted.negatives else "no negative prompt"]
    rows = [f"seed {first.seed + index}" for index in range(first.count)]
    return contact_sheet(title, labels, rows, images), cells


def _shifted(progress: Progress, before: int, index: int, step: int, total: int) -> None:
    progress(before + index, step, total)
