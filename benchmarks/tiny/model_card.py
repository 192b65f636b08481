"""Write the committed results into the model card: ``python benchmarks/tiny/model_card.py``."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from command import app_of, run
from figure import Figure
from tiny_figures import RESULTS
from vsf.bench.run import jsonl
from vsf.errors import RequestError
from vsf.generation.models import hash_folder
from vsf.tiny import folder

CARD = folder().with_name("README.md")
BEGIN = "<!-- figures: written from the measured results, not by hand -->\n"
END = "<!-- end of figures -->\n"
MARKS = {True: "yes", False: "**no**", None: ""}


def main(
    results: Annotated[Path, typer.Option(help="The figures with their rows.")] = RESULTS,
    card: Annotated[Path, typer.Option(help="The model card to bring up to date.")] = CARD,
) -> None:
    """Write the figures into the model card."""
    try:
        measured = json.loads(results.read_text(encoding="utf-8"))
        weights = measured["about"][0]["weights"]["tiny"]
    except (OSError, ValueError, KeyError) as error:
        raise RequestError(
            f'"{results}" holds no figures: "python benchmarks/tiny/tiny_figures.py" comes first.'
        ) from error
    if weights != hash_folder(folder()):
        raise RequestError(f'"{results}" is of other weights than those here: measure these first.')
    jsonl.write(card, updated(card.read_text(encoding="utf-8"), measured).encode())
    typer.echo(f"The figures are in {card}.")


def updated(card: str, measured: Mapping[str, Any]) -> str:
    """Put figures between the two marks of a card. Raises RequestError if it lacks the marks."""
    before, begin, after_begin = card.partition(BEGIN)
    _, end, after = after_begin.partition(END)
    if not (begin and end):
        raise RequestError(f"the model card has no place for figures: a line {BEGIN.strip()} and a line {END.strip()}.")
    return before + begin + section(measured) + end + after


def section(measured: Mapping[str, Any]) -> str:
    """Format the figures as Markdown: those with a bound, then the others, and how many images they rest on."""
    figures = [Figure(**_fields(row)) for row in measured["figures"]]
    images = Counter(row["setting"] for row in measured["rows"])
    bounded = []
    unbounded = []
    for figure in figures:
        if figure.bound:
            bounded.append([figure.name, _value(figure), figure.bound, MARKS[figure.held], figure.note])
        else:
            unbounded.append([figure.name, _value(figure), figure.note])
    basis = f"Of held-out test prompts, {images['none']} images for each setting of `tiny`."
    lines = ["", basis, "", *_table(["figure", "value", "bound", "held", "note"], bounded), ""]
    if unbounded:
        lines += ["For comparison, without bounds:", "", *_table(["figure", "value", "note"], unbounded), ""]
    return "\n".join(lines) + "\n"


def _fields(row: Mapping[str, Any]) -> dict[str, Any]:
    """Read a figure's fields from JSON, where an open bound is null."""
    fields = {name: row[name] for name in ("name", "value", "note")}
    fields["low"] = -math.inf if row["low"] is None else row["low"]
    fields["high"] = math.inf if row["high"] is None else row["high"]
    if "spread" in row:
        fields["spread"] = tuple(row["spread"])
    return fields


def _value(figure: Figure) -> str:
    return "not measured" if figure.value is None else f"{figure.value:.3f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


if __name__ == "__main__":
    run(app_of(main))
