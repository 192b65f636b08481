"""The report of a folder of judged rows: one page that needs no other file, and its numbers for further use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vsf.bench.report import examples, files, page, plots
from vsf.bench.report.content import Asked, Content, gather
from vsf.bench.run import manifest as folders
from vsf.bench.run import rows as records

__all__ = ["Report", "build"]


@dataclass(frozen=True)
class Report:
    """A written report: its page, and what stands in it."""

    page: Path
    content: Content


def build(
    folder: Path,
    *,
    out: Path | None = None,
    dev: Path | None = None,
    judge: str | None = None,
    kept: float = 0.9,
    reference: str = "",
    images: bool = False,
) -> Report:
    """Write `report.html` and `report.md` into a folder, and tables and pictures into `report` below it.

    Args:
        folder: rows and verdicts of a run on test prompts.
        out: where the report goes; by default into the folder itself.
        dev: rows and verdicts of the same settings on dev prompts. Strengths are matched there; without it they are
            matched on the rows of the report itself, which flatters them, and the page says so.
        judge: whose verdicts count, where there are several.
        kept: the positive score at which methods are compared.
        reference: the setting or curve that the others are compared with; by default the first of value sign flip.
        images: also write `report/images.jsonl`, a line for each image with its row and its verdict.

    Raises:
        RequestError: no rows, several judges and none chosen, an unknown reference, a method without dev rows, or a
            folder that cannot be read or written.
    """
    out = folder if out is None else out
    asked = Asked(kept=kept, reference=reference, matched_on_dev=dev is not None)
    scores = records.scored(folder, judge)
    judge = records.counted_judge(folder, judge)
    dev_scores = records.scored(dev, judge) if dev is not None else scores
    pairs = {pair.id: pair for pair in folders.pairs(folder)}
    content = gather(scores, dev_scores, pairs, asked)
    costs = files.costs(folder, scores, judge)
    charts = plots.draw(content, out / "report")
    shown = examples.choose(content, pairs, folder)
    files.write(content, costs, out)
    if images:
        files.write_images(records.judged(folder, judge), out / "report" / "images.jsonl")
    return Report(page.write(out / "report.html", content, costs, charts, shown), content)
