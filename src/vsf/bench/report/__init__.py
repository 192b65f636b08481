"""Reports: one self-contained page about a folder of judged rows, and its numbers as CSV, Markdown and plots."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vsf.bench.report import examples, files, page, plots
from vsf.bench.report.content import Content, ReportOptions, gather
from vsf.bench.run import manifest
from vsf.bench.run.rows import counted_judge, scored
from vsf.bench.stats.tables import Metric

__all__ = ["Report", "build"]


@dataclass(frozen=True)
class Report:
    """A written report: its page, and the numbers on it."""

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
    """Write `report.html` and `report.md` into a folder, and tables and plots into `report` below it.

    Args:
        folder: Rows and verdicts of a run on test prompts.
        out: Where the report goes; into the folder itself by default.
        dev: Rows and verdicts of the same settings on dev prompts. Strengths are matched there; without it they are
            matched on the rows of the report itself, which flatters them, and the page says so.
        judge: Whose verdicts count, if there are several.
        kept: The positive score at which methods are compared.
        reference: The setting or curve that the others are compared with; the first of value sign flip by default.
        images: Whether to write `report/images.jsonl`, too, which has a line per image with its row and its verdict.

    Raises:
        RequestError: No rows, several judges and none chosen, an unknown reference, a method without dev rows, or a
            folder that cannot be read or written.
    """
    out = folder if out is None else out
    scores = scored(folder, judge)
    headline: Metric = "success" if any(score.success is not None for score in scores) else "negative"
    options = ReportOptions(kept, reference, dev is not None, headline)
    judge = counted_judge(folder, judge)
    dev_scores = scored(dev, judge) if dev is not None else scores
    pairs = {pair.id: pair for pair in manifest.pairs(folder)}
    content = gather(scores, dev_scores, pairs, options)
    costs = files.costs(folder, scores, judge)
    charts = plots.draw(content, out / "report")
    sheets = examples.choose(content, pairs, folder)
    files.write(content, costs, out)
    if images:
        files.write_images(scores, out / "report" / "images.jsonl")
    return Report(page.write(out / "report.html", content, costs, charts, sheets), content)
