"""What the negatives did to a picture, told on the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsf import tiny
from vsf.cli import console
from vsf.generation.files import report_files

if TYPE_CHECKING:
    from vsf.generation import Result


def note_unseen(result: Result, what: str) -> None:
    """Say which negatives the picture `what` never looked at, so that no one trusts a run without effect."""
    from vsf.generation import report

    for text in report.unseen(result):
        console.note(f'{what}: the negative "{text}" never got attention, so it changed nothing.')


def verdict(model: str, result: Result, negatives: str) -> str:
    """Return what the judge of the embedded models sees in a picture; "" for other models, which it cannot read."""
    if model not in tiny.MODELS:
        return ""
    from vsf.judges.scenes.judge import describe

    return describe(result.image, negatives)


def sentences(picture: Path, document: dict[str, Any]) -> list[str]:
    """Write the report of a picture in lines for people."""
    lines = [document["summary"], f"all figures: {report_files(picture, 0)[0].name}"]
    for negative in document["negatives"]:
        if negative["seen"]:
            found = f"{negative['mean_mass']:.2%} of the attention, where: {negative['heat_map']}"
        else:
            found = "what it did could not be observed" if negative["seen"] is None else "NEVER GOT ATTENTION"
        lines.append(f"{negative['text']}: {found}")
    return lines
