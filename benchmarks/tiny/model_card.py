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
BEGIN, END = "<!-- figures: written from the measured results, not by hand -->\n", "<!-- end of figures -->\n"
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
    before, begin, rest = card.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise RequestError(f"the model card has no place for figures: a line {BEGIN.strip()} and a line {END.strip()}.")
    return before + begin + section(measured) + end + after


def section(measured: Mapping[str, Any]) -> str:
    """Format the figures as Markdown: those with a bound, then the others, and how many images they rest on."""
    figures = [Figure(**_fields(row)) for row in measured["figures"]]
    images = Counter(row["setting"] for row in measured["rows"])
    bounded = [figure for figure in figures if figure.bound]
    others = [figure for figure in figures if not figure.bound]
    basis = f"Of held-out test prompts, {images['none']} images for each setting of `tiny`."
    rows = [_row(figure) for figure in bounded]
    lines = ["", basis, "", *_table(["figure", "value", "bound", "held", "note"], rows), ""]
    if others:
        rows = [[figure.name, _value(figure), figure.note] for figure in others]
        lines += ["For comparison, without bounds:", "", *_table(["figure", "value", "note"], rows), ""]
    return "\n".join(lines) + "\n"


def _fields(row: Mapping[str, Any]) -> dict[str, Any]:
    """Read a figure's fields from JSON, where an open bound is null."""
    low, high = row["low"], row["high"]
    open_ends = {"low": -math.inf if low is None else low, "high": math.inf if high is None else high}
    spread = {"spread": tuple(row["spread"])} if "spread" in row else {}
    return {"name": row["name"], "value": row["value"], "note": row["note"], **spread, **open_ends}


def _row(figure: Figure) -> list[str]:
    return [figure.name, _value(figure), figure.bound, MARKS[figure.held], figure.note]


def _value(figure: Figure) -> str:
    return "not measured" if figure.value is None else f"{figure.value:.3f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


if __name__ == "__main__":
    run(app_of(main))
