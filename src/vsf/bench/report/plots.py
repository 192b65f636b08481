"""The trade-off plots of a report: positive score or quality against negative score, a line and a band per method.

More than MOST lines in one plot cannot be told apart: the plots show those that reach farthest and the reference, and
all of them stand in small multiples, one method a panel.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vsf.bench.report.content import Content
from vsf.bench.run import jsonl
from vsf.bench.stats.bootstrap import interval
from vsf.bench.stats.tables import Metric, Table, column, curves
from vsf.bench.stats.tradeoff import Point, band, frontier, points

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 6
"""The most lines in one plot."""
COLUMNS = 4  # of small multiples
# Okabe and Ito's colours, which most colour-blind readers can tell apart, without the yellow that white paper swallows.
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
GRID = 101
_GAP = 0.045  # between labels, as a fraction of the height


@dataclass(frozen=True)
class Chart:
    """A plot: its title and its files."""

    title: str
    png: Path
    svg: Path


def draw(content: Content, folder: Path) -> list[Chart]:
    """Draw positive and quality against negative score, and small multiples, as PNG and SVG. Raises RequestError."""
    import matplotlib

    titles: dict[Metric, str] = {
        "positive": "Positive score against negative score",
        "quality": "Quality against negative score",
    }
    # The salt makes the ids in the SVG, and with them the whole file, the same each time.
    with matplotlib.rc_context(
        {"svg.hashsalt": "vsf", "font.size": 11, "axes.spines.top": False, "axes.spines.right": False}
    ):
        charts = [_chart(content, metric, title, folder) for metric, title in titles.items()]
        if len(curves(list(content.tables))) > MOST:
            charts.append(_multiples(content, folder))
    return charts


def main_curves(content: Content) -> list[str]:
    """Choose at most MOST curves: the reference, and those with the largest hypervolume, in the order of the table."""
    by_area = sorted(content.matched, key=lambda line: -line.hypervolume)
    ranked = [line.curve for line in by_area if line.curve != content.matched_reference]
    first = [content.matched_reference] if content.matched_reference else []
    chosen = {*first, *ranked[: MOST - len(first)]}
    return [line.curve for line in content.matched if line.curve in chosen]


def _chart(content: Content, kept: Metric, title: str, folder: Path) -> Chart:
    from matplotlib.figure import Figure

    tables = content.tables
    labels_of_curve = curves(list(tables))
    # A Figure of its own, not pyplot's: that would keep it in a global list and may want a display.
    figure = Figure(figsize=(8.6, 5.2), layout="constrained", dpi=150)
    axes = figure.add_subplot()
    line_ends = []
    for index, name in enumerate(main_curves(content)):
        curve_points = points(tables, labels_of_curve[name], kept)
        if curve_points:
            colour = COLOURS[index]
            _plot_curve(axes, tables, curve_points, kept, colour)
            line_ends.append((name, frontier(curve_points)[-1], colour))
    axes.set_xlabel("negative score: what was to be left out is gone")
    axes.set_ylabel("positive score" if kept == "positive" else "quality")
    axes.set_title(f"{title} (both: higher is better)", loc="left", fontsize=12)
    axes.grid(color="#e4e4e7", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.margins(x=0.04, y=0.06)
    if kept == "positive":
        _plot_bound(axes, content.options.kept)
    _write_names(axes, line_ends)
    return _saved(figure, title, folder / f"{kept}-negative")


def _multiples(content: Content, folder: Path) -> Chart:
    """Draw every curve in a panel of its own, before all others in grey."""
    from matplotlib.figure import Figure

    labels_of_curve = curves(list(content.tables))
    points_of = {name: points(content.tables, labels) for name, labels in labels_of_curve.items()}
    fronts = {name: frontier(curve_points) for name, curve_points in points_of.items() if curve_points}
    rows = -(-len(fronts) // COLUMNS)
    figure = Figure(figsize=(8.6, 1.9 * rows + 0.4), layout="constrained", dpi=150)
    panels = figure.subplots(rows, COLUMNS, sharex=True, sharey=True, squeeze=False).ravel()
    for panel in panels[len(fronts) :]:
        panel.set_visible(False)
    for panel, name in zip(panels, fronts, strict=False):
        for front in fronts.values():
            panel.plot(*_coordinates(front), color="#d4d4d8", linewidth=0.8)
        panel.plot(*_coordinates(fronts[name]), color=COLOURS[1], linewidth=1.8, marker="o", markersize=3.5)
        _plot_bound(panel, content.options.kept)
        panel.set_title(name, loc="left", fontsize=8.5, parse_math=False)
        panel.tick_params(labelsize=8)
    figure.supxlabel("negative score", fontsize=10)
    figure.supylabel("positive score", fontsize=10)
    return _saved(figure, "Every method, before all others in grey", folder / "multiples")


def _plot_bound(axes: Axes, kept: float) -> None:
    """Draw the line of the positive score at which methods are compared."""
    axes.axhline(kept, color="#71717a", linewidth=0.9, linestyle=(0, (4, 3)), zorder=0)


def _saved(figure: Figure, title: str, file: Path) -> Chart:
    """Write a figure as PNG and SVG. Raises RequestError."""
    chart = Chart(title, file.with_suffix(".png"), file.with_suffix(".svg"))
    jsonl.write(chart.png, _rendered(figure, "png"))
    jsonl.write(chart.svg, _rendered(figure, "svg", metadata={"Date": None}))
    return chart


def _rendered(figure: Figure, kind: str, **settings: Any) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format=kind, **settings)
    return stream.getvalue()


def _plot_curve(
    axes: Axes, tables: Mapping[str, Table], curve_points: Sequence[Point], kept: Metric, colour: str
) -> None:
    """Plot a frontier with its band, and hollow the settings off it; a single setting gets its two intervals."""
    front = frontier(curve_points)
    if len(curve_points) == 1:
        _plot_cross(axes, tables[front[0].label], front[0], kept, colour)
        return
    grid = np.linspace(float(front[-1].kept), float(front[0].kept), GRID).tolist()
    area = band(tables, [point.label for point in front], kept, grid)
    axes.fill_betweenx(area.kept, area.low, area.high, color=colour, alpha=0.14, linewidth=0)
    axes.plot(*_coordinates(front), color=colour, linewidth=1.8, marker="o", markersize=5)
    beaten = [point for point in curve_points if point not in front]
    axes.scatter(*_coordinates(beaten), s=16, facecolors="none", edgecolors=colour, alpha=0.6)


def _coordinates(curve_points: Sequence[Point]) -> tuple[list[float], list[float]]:
    """Return x, the negative scores, and y, the kept scores, as floats, because matplotlib takes no fractions."""
    across = []
    up = []
    for point in curve_points:
        across.append(float(point.negative))
        up.append(float(point.kept))
    return across, up


def _plot_cross(axes: Axes, table: Table, point: Point, kept: Metric, colour: str) -> None:
    """Plot a setting as a diamond on its two intervals."""
    across, up = _coordinates([point])
    metrics: tuple[Metric, Metric] = ("negative", kept)
    for metric in metrics:
        span = interval(column(table, metric))
        if span is not None:
            ends = [span.low, span.high]
            line = (ends, up * 2) if metric == "negative" else (across * 2, ends)
            axes.plot(*line, color=colour, linewidth=1.2, alpha=0.5)
    axes.plot(across, up, color=colour, marker="D", markersize=6)


def _write_names(axes: Axes, line_ends: Sequence[tuple[str, Point, str]]) -> None:
    """Write each method's name right of the plot, level with its last point unless that would overlap its neighbour."""
    low, high = axes.get_ylim()
    # Names are placed from the bottom up, each at least _GAP above the one before; then those that would leave the plot
    # at the top are pushed down, as far as the names above them need.
    upwards = sorted(line_ends, key=lambda end: end[1].kept)
    heights: list[float] = []
    for _, point, _ in upwards:
        level = (float(point.kept) - low) / (high - low)
        heights.append(max(level, heights[-1] + _GAP) if heights else level)
    for index, (name, point, colour) in enumerate(upwards):
        names_above = len(upwards) - 1 - index
        height = min(heights[index], 1.0 - _GAP * names_above)
        axes.annotate(
            name,
            xy=(float(point.negative), float(point.kept)),
            xytext=(1.015, height),
            textcoords="axes fraction",
            color=colour,
            va="center",
            fontweight="bold",
            annotation_clip=False,
            parse_math=False,  # a dollar sign in a label is no formula
            arrowprops={"arrowstyle": "-", "color": colour, "alpha": 0.35, "linewidth": 0.8, "shrinkB": 4},
        )
