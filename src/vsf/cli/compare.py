"""`vsf compare`: one sheet with a column per method, and the same seeds in every column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from vsf.cli import console, feedback, index, inputs, method_grammar, outputs
from vsf.cli.drawing_options import OUT_HELP, OUT_SPELLINGS, DrawingOptions, PromptOptions
from vsf.cli.options import takes_options
from vsf.errors import RequestError
from vsf.generation.metadata import provenance
from vsf.generation.negatives import format_negatives
from vsf.generation.request import Arguments, Request
from vsf.options import option

if TYPE_CHECKING:
    from PIL.Image import Image

    from vsf.generation import Model

EXAMPLE = "vsf compare 'a red car on snow' --negative wheels --methods none,vsf,nag++ --seeds 1,3,5 --out sheet.png"


@dataclass(frozen=True, kw_only=True)
class OwnOptions(PromptOptions):
    """The options that only `vsf compare` has, after the prompt."""

    methods: str = option(
        "Methods, with knobs or a preset: none,nag++,vsf:scale=2,offset=-.6,nag:preset=strong",
        default="none,vsf",
    )
    scales: str | None = option(
        "A column for each of these scales, such as 1,2,4, of every method that names none itself."
    )
    seeds: str | None = option("A row for each of these seeds, such as 1,5,9, instead of --seed and --count.")
    out: str = option(OUT_HELP, default="out/compare.png", also=OUT_SPELLINGS)


@dataclass(frozen=True, kw_only=True)
class CompareOptions(DrawingOptions, OwnOptions):
    """The options of `vsf compare`; their order in the help is that of the bases, last base first."""


@dataclass(frozen=True)
class Column:
    """A method as the user wrote it, and its request for the first row."""

    label: str
    request: Request


@takes_options(CompareOptions)
def command(options: CompareOptions) -> None:
    """Draw the same scene with several methods, on one labelled sheet."""
    specs = method_grammar.split(options.methods)
    scales = inputs.parse_numbers("scales", options.scales)
    written_seeds = inputs.parse_whole_numbers("seeds", options.seeds)
    if written_seeds and (options.seed is not None or options.count is not None):
        raise RequestError("give the rows with --seeds, or with --seed and --count, not with both.")
    arguments = inputs.request_arguments(options)
    if options.prompt is None:
        raise RequestError('no prompt: say what to draw, as in vsf compare "a red car" --negative wheels.')
    settings: list[tuple[str, Arguments]] = []
    for spec in specs:
        settings += _with_scales(spec, scales)
    inputs.check_model(arguments)
    columns = [Column(label, _request(arguments, setting)) for label, setting in settings]
    first = columns[0].request
    seeds = written_seeds or [first.seed + row for row in range(first.count)]
    with outputs.planned(str(options.out), ["compare"]) as (file,):
        _print_warnings(_base(columns), columns)
        model = console.load_quietly(first, quiet=options.json)
        sheet, cells = draw_sheet(columns, seeds, model, quiet=options.json)
        provenance.write(file, sheet, {"sheet": cells})
    if options.json:
        console.print_json({"file": str(file), "cells": provenance.portable(cells)})
    else:
        console.stdout.print(f"{file}  ({len(cells)} pictures)", markup=False, soft_wrap=True)


def draw_sheet(
    columns: Sequence[Column], seeds: Sequence[int], model: Model, *, quiet: bool
) -> tuple[Image, list[dict[str, Any]]]:
    """Draw every column with every seed.

    Returns:
        The sheet, and the metadata of its pictures, column by column.
    """
    from vsf.generation import draw
    from vsf.generation.sheet import contact_sheet

    images: list[Image] = []
    cells: list[dict[str, Any]] = []
    captions: list[str] = []
    prompt = _base(columns).wanted
    messages: list[str] = []
    for column in columns:
        messages += feedback.unread_messages(column.request, model)
    # Most columns read the same prompts: each message is printed once.
    for message in dict.fromkeys(messages):
        console.note(message)
    with feedback.library_warnings_off(), console.steps(len(columns) * len(seeds), quiet=quiet) as progress:
        for column in columns:
            for seed in seeds:
                request = replace(column.request, seed=seed, count=1)
                for result in draw(request, model, console.after(progress, len(images))):
                    verdict = feedback.verdict(request.model, result, " ".join(prompt.negatives))
                    images.append(result.image)
                    captions.append(verdict)
                    cells.append({**result.metadata, **({"seen": verdict} if verdict else {})})
    without = f"without: {format_negatives(prompt.negatives)}" if prompt.negatives else "no negative prompt"
    rows = [f"seed {seed}" for seed in seeds]
    labels = [column.label for column in columns]
    sheet = contact_sheet([prompt.positive, without], labels, rows, images, captions if any(captions) else ())
    return sheet, cells


def _with_scales(spec: str, scales: Sequence[float]) -> list[tuple[str, Arguments]]:
    """Parse one method into a labelled setting per scale; just one if it has no scale, or one of its own."""
    setting = method_grammar.parse(spec)
    if not scales or "scale" in setting["knobs"] or "scale" not in index.methods()[setting["method"]]:
        return [(spec, setting)]
    separator = ":" if ":" not in spec else ","
    settings: list[tuple[str, Arguments]] = []
    for scale in scales:
        knobs = {**setting["knobs"], "scale": scale}
        settings.append((f"{spec}{separator}scale={scale:g}", {**setting, "knobs": knobs}))
    return settings


def _request(arguments: Arguments, setting: Arguments) -> Request:
    """Build the request of a column.

    The method cfg, and the pipeline's own guidance with the method none, read the negative as a prompt of its own. If
    there is a context, they get the negative written into it, as there is no other way to give it to them.
    """
    if not arguments.get("within"):
        return Request(**{**arguments, **setting})
    base = Request(**{**arguments, "method": "vsf"})
    uses_host_guidance = setting["method"] == "none" and base.guidance_scale > 1
    if setting["method"] != "cfg" and not uses_host_guidance:
        return replace(base, **setting)
    assert base.context is not None
    negatives = base.wanted.negatives
    in_context: str | dict[str, float] = base.context.replace("{}", ", ".join(negatives)) if negatives else ""
    # `Request` refuses them, by name, if they are not supported.
    if any(weight != 1 for weight in negatives.values()):
        in_context = {base.context.replace("{}", text): weight for text, weight in negatives.items()}
    prompt = replace(base.wanted, negatives={})
    return replace(base, **setting, prompt=prompt, negative=in_context, within="")


def _print_warnings(base: Request, columns: Sequence[Column]) -> None:
    """Print oddities of the columns that are allowed; `base` has the negatives as the user wrote them."""
    is_guided = any(column.request.method != "none" for column in columns)
    for message in inputs.warnings(base, is_guided=is_guided):
        console.note(message)
    for column in columns:
        if column.request.within != base.within:
            negative = format_negatives(column.request.wanted.negatives)
            console.note(f'{column.label} reads a negative as a prompt: "{negative}".')


def _base(columns: Sequence[Column]) -> Request:
    """Return the request of a column that has the negatives as the user wrote them, if there is one."""
    for column in columns:
        if column.request.within:
            return column.request
    return columns[0].request
