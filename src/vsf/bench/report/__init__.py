"""The report of a folder of judged rows: one page that needs no other file, and its numbers for further use."""

from __future__ import annotations

from pathlib import Path

from vsf.bench import folder as folders
from vsf.bench import rows as records
from vsf.bench.report import examples, files, page, plots
from vsf.bench.report.content import Asked, gather

__all__ = ["build"]


def build(
    folder: Path,
    *,
    dev: Path | None = None,
    judge: str | None = None,
    kept: float = 0.9,
    reference: str = "",
    images: bool = False,
) -> Path:
    """Write `report.html` and `report.md` into the folder, tables and pictures into its `report`, and return the page.

    Args:
        folder: rows and verdicts of a run on test prompts.
        dev: rows and verdicts of the same settings on dev prompts. Strengths are matched there; without it they are
            matched on the rows of the report itself, which flatters them, and the page says so.
        judge: whose verdicts count, where there are several.
        kept: the positive score at which methods are compared.
        reference: the setting or curve that the others are compared with; by default the first of value sign flip.
        images: also write `report/images.jsonl`, a line for each image with its row and its verdict.

    Raises:
        RequestError: no rows, several judges and none chosen, an unknown reference, a method without dev rows, or a
            folder that cannot be read.
    """
    asked = Asked(kept=kept, reference=reference, matched_on_dev=dev is not None)
    scores = records.scored(folder, judge)
    dev_scores = records.scored(dev, judge) if dev is not None else scores
    pairs = {pair.id: pair for pair in folders.pairs(folder)}
    content = gather(scores, dev_scores, pairs, asked)
    costs = files.costs(folder, scores, judge)
    charts = plots.draw(content, folder / "report")
    shown = examples.choose(content, pairs, folder)
    files.write(content, costs, folder)
    if images:
        files.write_images(records.judged(folder, judge), folder / "report" / "images.jsonl")
    return page.write(folder / "report.html", content, costs, charts, shown)
