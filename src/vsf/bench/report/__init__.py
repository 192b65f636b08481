"""Reports: one self-contained page about a folder of judged rows, and its numbers as CSV, Markdown and plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vsf.bench.report import examples, files, page, plots
from vsf.bench.report.content import Content, ReportOptions, gather
from vsf.bench.run import manifest
from vsf.bench.run.rows import Score, counted_judge
from vsf.bench.run.scored import scored
from vsf.bench.stats.tables import Metric
from vsf.errors import RequestError

__all__ = ["Report", "build"]


@dataclass(frozen=True)
class Report:
    """A written report: its page, and the numbers on it."""

    page: Path
    content: Content


def build(
    folder: Path,
    *,
    also: Sequence[Path] = (),
    out: Path | None = None,
    dev: Path | None = None,
    judges: Sequence[str] = (),
    kept: float = 0.9,
    reference: str = "",
    images: bool = False,
) -> Report:
    """Write `report.html` and `report.md` into a folder, and tables and plots into `report` below it.

    Args:
        folder: Rows and verdicts of a run on test prompts.
        also: Folders of the same settings on further students, models that were trained alike from other seeds.
        out: Where the report goes; into the folder itself by default.
        dev: Rows and verdicts of the same settings on dev prompts. Strengths are matched there; without it they are
            matched on the rows of the report itself, which flatters them, and the page says so.
        judges: Whose verdicts count, if there are several. The first is the report's own, and every conclusion is
            drawn under the others, too.
        kept: The positive score at which methods are compared.
        reference: The setting or curve that the others are compared with; the first of value sign flip by default.
        images: Whether to write `report/images.jsonl`, too, which has a line per image with its row and its verdict.

    Raises:
        RequestError: No rows, several judges and none chosen, an unknown reference, a method without dev rows, two
            folders of one name, or a folder that cannot be read or written.
    """
    out = folder if out is None else out
    folders = {"": folder} if not also else _students([folder, *also])
    judge = counted_judge(folder, judges[0] if judges else None)
    scores = _scored(folders, judge)
    scores_of_judges = {name: _scored(folders, name) for name in judges[1:]}
    headline: Metric = "success" if any(score.success is not None for score in scores) else "negative"
    options = ReportOptions(kept, reference, dev is not None, headline)
    dev_scores = scored(dev, judge) if dev is not None else scores
    pairs = {}
    for run in folders.values():
        pairs.update({pair.id: pair for pair in manifest.pairs(run)})
    content = gather(scores, dev_scores, pairs, options, scores_of_judges)
    costs = files.costs(list(folders.values()), scores, judge)
    charts = plots.draw(content, out / "report")
    shown = examples.choose(content, pairs, folders)
    files.write(content, costs, out)
    if images:
        files.write_images(scores, out / "report" / "images.jsonl")
    return Report(page.write(out / "report.html", content, costs, charts, shown), content)


def _students(folders: Sequence[Path]) -> dict[str, Path]:
    """Name the runs that a report joins by their folders. Raises RequestError if two have the same name."""
    by_name = {folder.resolve().name: folder for folder in folders}
    if len(by_name) < len(folders):
        raise RequestError("the folders of one report need different names, by which it tells the runs apart.")
    return by_name


def _scored(folders: Mapping[str, Path], judge: str | None) -> list[Score]:
    scores = []
    for student, folder in folders.items():
        scores += scored(folder, judge, student)
    return scores
