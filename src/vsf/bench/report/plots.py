"""The trade-off plots of a report: positive score or quality against negative score, a line and a band per method."""

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

# Okabe and Ito's colours, which most colour-blind readers can tell apart, without the yellow that white paper swallows;
# then others as far from them as there is room.
COLOURS = (
    *("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#7F3C8D", "#8A8A8A", "#6B4C2A"),
    *("#A50026", "#1A2A80", "#7FB800", "#FF4FA3", "#00B3B3", "#5B5BFF", "#FF8A80", "#2F4F4F", "#9C7A00", "#B388FF"),
)
GRID = 101
_GAP = 0.045  # between labels, as a fraction of the height


@dataclass(frozen=True)
class Chart:
    """A plot: its title and its files."""

    title: str
    png: Path
    svg: Path


def draw(content: Content, folder: Path) -> list[Chart]:
    """Draw positive and quality against negative score, as PNG and SVG. Raises RequestError."""
    titles: dict[Metric, str] = {
        "positive": "Positive score against negative score",
        "quality": "Quality against negative score",
    }
    return [_chart(content.tables, metric, title, folder) for metric, title in titles.items()]


def _chart(tables: Mapping[str, Table], kept: Metric, title: str, folder: Path) -> Chart:
    import matplotlib
    from matplotlib.figure import Figure

    # The salt makes the ids in the SVG, and with them the whole file, the same each time.
    with matplotlib.rc_context(
        {"svg.hashsalt": "vsf", "font.size": 11, "axes.spines.top": False, "axes.spines.right": False}
    ):
        # A Figure of its own, not pyplot's: that would keep it in a global list and may want a display.
        figure = Figure(figsize=(8.6, 5.2), layout="constrained", dpi=150)
        axes = figure.add_subplot()
        line_ends = []
        for index, (name, labels) in enumerate(curves(list(tables)).items()):
            curve_points = points(tables, labels, kept)
            if curve_points:
                colour = COLOURS[index % len(COLOURS)]
                _plot_curve(axes, tables, curve_points, kept, colour)
                line_ends.append((name, frontier(curve_points)[-1], colour))
        axes.set_xlabel("negative score: what was to be left out is gone")
        axes.set_ylabel("positive score" if kept == "positive" else "quality")
        axes.set_title(f"{title} (both: higher is better)", loc="left", fontsize=12)
        axes.grid(color="#e4e4e7", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.margins(x=0.04, y=0.06)
        _write_names(axes, line_ends)
        chart = Chart(title, folder / f"{kept}-negative.png", folder / f"{kept}-negative.svg")
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
