"""The page itself: one file, whose pictures and styles are part of it and whose texts are all escaped."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

from vsf.bench.report import files
from vsf.bench.report.content import Content
from vsf.bench.report.examples import Sheet
from vsf.bench.report.files import Costs
from vsf.bench.report.plots import Chart
from vsf.bench.run import jsonl as journal
from vsf.bench.stats.bootstrap import Interval


def write(file: Path, content: Content, spent: Costs, charts: Sequence[Chart], sheets: Sequence[Sheet]) -> Path:
    """Fill the template and write the page. Raises RequestError when it cannot be written."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"interval": _interval, "p": files.p_text, "share": _share, "embed": _embed}
    text = environment.get_template("page.html").render(content=content, spent=spent, charts=charts, sheets=sheets)
    journal.write(file, text.encode())
    return file


def _interval(value: Interval | None) -> str:
    """As everywhere, but a line may break before the bracket only."""
    return files.shown(value).replace(", ", ",\N{NO-BREAK SPACE}")


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _embed(picture: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"
