"""Tell on the terminal what the negatives did to a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsf import tiny
from vsf.cli import console
from vsf.generation.files import report_files

if TYPE_CHECKING:
    from vsf.generation import Result


def note_unseen(result: Result, file: str) -> None:
    """Print the negatives that a picture never looked at, so that no one trusts a run without effect."""
    from vsf.generation import report

    for text in report.unseen(result):
        console.note(f'{file}: the negative "{text}" never got attention, so it changed nothing.')


def verdict(model: str, result: Result, negatives: str) -> str:
    """Return what the judge of the embedded models sees in a picture; "" for other models, which it cannot read."""
    if model not in tiny.MODELS:
        return ""
    from vsf.judges.scenes.judge import describe

    return describe(result.image, negatives)


def sentences(picture: Path, report: Mapping[str, Any]) -> list[str]:
    """Format the report of a picture, as `vsf.generation.report` writes it, in lines for people."""
    lines = [report["summary"], f"all figures: {report_files(picture, 0)[0].name}"]
    for negative in report["negatives"]:
        if negative["seen"] is None:
            effect = "what it did could not be observed"
        elif negative["seen"]:
            effect = f"{negative['mean_mass']:.2%} of the attention, where: {negative['heat_map']}"
        else:
            effect = "NEVER GOT ATTENTION"
        lines.append(f"{negative['text']}: {effect}")
    return lines
