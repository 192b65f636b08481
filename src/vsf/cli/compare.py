"""`vsf compare`: one sheet, one column per method, the same seeds in every column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from vsf.cli import console, effect, index, inputs, method_grammar, outputs
from vsf.cli.options import NEGATIVE, PROMPT, SHARED, flag, out_flag, takes
from vsf.errors import RequestError
from vsf.generation.metadata import provenance
from vsf.generation.negatives import spell
from vsf.generation.request import Request

if TYPE_CHECKING:
    from PIL.Image import Image

    from vsf.generation import Model

EXAMPLE = "vsf compare 'a red car on snow' --negative wheels --methods none,vsf,nag++ --seeds 1,3,5 --out sheet.png"
METHODS = "none,vsf"
SHEET = "out/compare.png"
FLAGS = [
    PROMPT,
    NEGATIVE,
    flag(
        "methods",
        str,
        "Methods, with knobs or a preset: none,nag++,vsf:scale=2,offset=-.6,nag:preset=strong",
        default=METHODS,
    ),
    flag("scales", str, "A column for each of these scales, such as 1,2,4, of every method that names none itself."),
    flag("seeds", str, "A row for each of these seeds, such as 1,5,9, instead of --seed and --count."),
    out_flag(SHEET),
    *SHARED,
]


@dataclass(frozen=True)
class Column:
    """A method as it was written, and its request; the seed is that of the first row."""

    label: str
    request: Request


@takes(FLAGS)
def command(**flags: Any) -> None:
    """Draw the same scene with several methods, on one labelled sheet."""
    quiet = bool(flags.pop("json"))
    given = inputs.with_config(flags)
    out = str(given.pop("out", SHEET))
    specs = method_grammar.split(given.pop("methods", METHODS))
    scales = inputs.parse_numbers("scales", given.pop("scales", None))
    written_seeds = inputs.parse_numbers("seeds", given.pop("seeds", None), whole=True)
    if written_seeds and given.keys() & {"seed", "count"}:
        raise RequestError("give the rows with --seeds, or with --seed and --count, not with both.")
    fields = inputs.request_fields(given)
    if "prompt" not in fields:
        raise RequestError('no prompt: say what to draw, as in vsf compare "a red car" --negative wheels.')
    settings = [setting for spec in specs for setting in _with_scales(spec, scales)]
    inputs.check_model(fields)
    columns = [Column(label, _request(fields, setting)) for label, setting in settings]
    first = columns[0].request
    seeds = [int(seed) for seed in written_seeds] or [first.seed + row for row in range(first.count)]
    with outputs.planned(out, ["compare"]) as (file,):
        _note(_base(columns), columns)
        model = console.load_quietly(first, quiet=quiet)
        sheet, cells = draw_sheet(columns, seeds, model, quiet=quiet)
        provenance.write(file, sheet, {"sheet": cells})
    if quiet:
        console.print_json({"file": str(file), "cells": provenance.portable(cells)})
    else:
        console.stdout.print(f"{file}  ({len(cells)} pictures)", markup=False, soft_wrap=True)


def draw_sheet(
    columns: Sequence[Column], seeds: Sequence[int], model: Model, *, quiet: bool
) -> tuple[Image, list[dict[str, Any]]]:
    """Draw every column with every seed; returns the sheet and the metadata of its pictures, column by column."""
    from vsf.cli import unread
    from vsf.generation import draw
    from vsf.generation.sheet import contact_sheet

    images: list[Image] = []
    cells: list[dict[str, Any]] = []
    captions: list[str] = []
    wanted = _base(columns).wanted
    for note in dict.fromkeys(note for column in columns for note in unread.notes(column.request, model)):
        console.note(note)
    with unread.told(), console.steps(len(columns) * len(seeds), quiet=quiet) as progress:
        for column in columns:
            for seed in seeds:
                request = replace(column.request, seed=seed, count=1)
                for result in draw(request, model, console.after(progress, len(images))):
                    seen = effect.verdict(request.model, result, " ".join(wanted.negatives))
                    images.append(result.image)
                    captions.append(seen)
                    cells.append({**result.metadata, **({"seen": seen} if seen else {})})
    title = [wanted.positive, f"without: {spell(wanted.negatives)}" if wanted.negatives else "no negative prompt"]
    rows = [f"seed {seed}" for seed in seeds]
    labels = [column.label for column in columns]
    return contact_sheet(title, labels, rows, images, captions if any(captions) else ()), cells


def _with_scales(spec: str, scales: Sequence[float]) -> list[tuple[str, dict[str, Any]]]:
    """Read one method, once for every scale where it has one and names none itself; each with its label."""
    setting = method_grammar.parse(spec)
    if not scales or "scale" in setting["knobs"] or "scale" not in index.methods()[setting["method"]]:
        return [(spec, setting)]
    joint = ":" if ":" not in spec else ","
    return [
        (f"{spec}{joint}scale={scale:g}", {**setting, "knobs": {**setting["knobs"], "scale": scale}})
        for scale in scales
    ]


def _request(fields: dict[str, Any], setting: dict[str, Any]) -> Request:
    """Make the request of a column; where a negative is read as a prompt, its context is written into it.

    So it is by the method cfg, and by the pipeline's own guidance in the column of none.
    """
    if not fields.get("within"):
        return Request(**{**fields, **setting})
    base = Request(**{**fields, "method": "vsf"})
    if setting["method"] != "cfg" and (setting["method"] != "none" or base.guidance_scale <= 1):
        return replace(base, **setting)
    assert base.context is not None
    negatives = base.wanted.negatives
    whole: str | dict[str, float] = base.context.replace("{}", ", ".join(negatives)) if negatives else ""
    if any(weight != 1 for weight in negatives.values()):  # they are refused where they are not known, by name
        whole = {base.context.replace("{}", text): weight for text, weight in negatives.items()}
    prompt = replace(base.wanted, negatives={})
    return replace(base, **setting, prompt=prompt, negative=whole, within="")


def _note(base: Request, columns: Sequence[Column]) -> None:
    """Say what is odd about the columns and yet allowed; `base` is one that has the negatives as they were written."""
    acts = any(column.request.method != "none" for column in columns)
    for oddity in inputs.oddities(base, acts=acts):
        console.note(oddity)
    for column in columns:
        if column.request.within != base.within:
            console.note(f'{column.label} reads a negative as a prompt: "{spell(column.request.wanted.negatives)}".')


def _base(columns: Sequence[Column]) -> Request:
    """Return the request of a column that has the negatives as they were written, if there is one."""
    requests = [column.request for column in columns]
    return next((request for request in requests if request.within), requests[0])
