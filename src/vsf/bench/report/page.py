"""The page of a report: one file with all images and styles inside and every text escaped."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

from vsf.bench.report import files
from vsf.bench.report.content import Content, Scores
from vsf.bench.report.examples import Examples
from vsf.bench.report.files import Costs
from vsf.bench.report.plots import Chart
from vsf.bench.run import jsonl
from vsf.bench.stats.bootstrap import Interval
from vsf.bench.stats.tables import Metric


def write(file: Path, content: Content, costs: Costs, charts: Sequence[Chart], examples: Examples) -> Path:
    """Render the template and write the page. Raises RequestError if it cannot be written."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"interval": _interval, "p": files.p_text, "share": _share, "embed": _embed, "score": _score}
    text = environment.get_template("page.html").render(
        answer=files.answer(content),
        content=content,
        headline=files.HEADLINES[content.options.headline],
        metrics=files.present(content),
        judge_tables=files.judges_tables(content),
        spent=costs,
        charts=charts,
        examples=examples,
    )
    jsonl.write(file, text.encode())
    return file


def _interval(value: Interval | None) -> str:
    """Format as in the other files, but let a line break only before the bracket."""
    return files.shown(value).replace(", ", ",\N{NO-BREAK SPACE}")


def _score(scores: Scores, metric: Metric) -> Interval | None:
    value: Interval | None = getattr(scores, metric)
    return value


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _embed(image: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(image.read_bytes()).decode()}"
