"""The trade-off plots: what is kept against what is removed, one line and band per method."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vsf.bench.report.content import Content
from vsf.bench.run import jsonl as journal
from vsf.bench.stats.bootstrap import interval
from vsf.bench.stats.tables import Metric, Table, column, curves, per_pair
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
_GAP = 0.045  # between labels, as a share of the height


@dataclass(frozen=True)
class Chart:
    """A drawn plot: a sentence that says what it shows, and its files."""

    title: str
    png: Path
    svg: Path


def draw(content: Content, folder: Path) -> list[Chart]:
    """Draw positive against negative and quality against negative, as PNG and SVG. Raises RequestError."""
    titles: dict[Metric, str] = {
        "positive": "Positive score against negative score",
        "quality": "Quality against negative score",
    }
    return [_chart(content.tables, metric, title, folder) for metric, title in titles.items()]


def _chart(tables: Mapping[str, Table], kept: Metric, title: str, folder: Path) -> Chart:
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(
        {"svg.hashsalt": "vsf", "font.size": 11, "axes.spines.top": False, "axes.spines.right": False}
    ):
        figure = Figure(figsize=(8.6, 5.2), layout="constrained", dpi=150)
        axes = figure.add_subplot()
        ends = []
        for index, (name, labels) in enumerate(curves(list(tables)).items()):
            found = points(tables, labels, kept)
            if found:
                colour = COLOURS[index % len(COLOURS)]
                _line(axes, tables, found, kept, colour)
                ends.append((name, frontier(found)[-1], colour))
        axes.set_xlabel("negative score: what was to be left out is gone")
        axes.set_ylabel("positive score" if kept == "positive" else "quality")
        axes.set_title(f"{title} (both: higher is better)", loc="left", fontsize=12)
        axes.grid(color="#e4e4e7", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.margins(x=0.04, y=0.06)
        _name(axes, ends)
        chart = Chart(title, folder / f"{kept}-negative.png", folder / f"{kept}-negative.svg")
        journal.write(chart.png, _rendered(figure, "png"))
        journal.write(chart.svg, _rendered(figure, "svg", metadata={"Date": None}))
    return chart


def _rendered(figure: Figure, kind: str, **settings: Any) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format=kind, **settings)
    return stream.getvalue()


def _line(axes: Axes, tables: Mapping[str, Table], found: Sequence[Point], kept: Metric, colour: str) -> None:
    """A curve with its band, settings off the frontier hollow; or a method's only setting, with its two intervals."""
    front = frontier(found)
    if len(found) == 1:
        _cross(axes, tables[front[0].label], front[0], kept, colour)
        return
    grid = np.linspace(float(front[-1].kept), float(front[0].kept), GRID).tolist()
    area = band(tables, [point.label for point in front], kept, grid)
    axes.fill_betweenx(area.kept, area.low, area.high, color=colour, alpha=0.14, linewidth=0)
    axes.plot(*_coordinates(front), color=colour, linewidth=1.8, marker="o", markersize=5)
    beaten = [point for point in found if point not in front]
    axes.scatter(*_coordinates(beaten), s=16, facecolors="none", edgecolors=colour, alpha=0.6)


def _coordinates(found: Sequence[Point]) -> tuple[list[float], list[float]]:
    """Give the points to matplotlib, which draws floats: along x what is removed, along y what is kept."""
    return [float(point.negative) for point in found], [float(point.kept) for point in found]


def _cross(axes: Axes, table: Table, point: Point, kept: Metric, colour: str) -> None:
    across, up = _coordinates([point])
    spans = {metric: interval(list(per_pair(column(table, metric)).values())) for metric in ("negative", kept)}
    for metric, span in spans.items():
        if span is not None:
            ends = [span.low, span.high]
            along = (ends, up * 2) if metric == "negative" else (across * 2, ends)
            axes.plot(*along, color=colour, linewidth=1.2, alpha=0.5)
    axes.plot(across, up, color=colour, marker="D", markersize=6)


def _name(axes: Axes, ends: Sequence[tuple[str, Point, str]]) -> None:
    """Write each method's name right of the plot, level with its last point or pushed a little off its neighbour."""
    low, high = axes.get_ylim()
    ordered = sorted(ends, key=lambda end: end[1].kept)
    heights: list[float] = []
    for _, point, _ in ordered:
        level = (float(point.kept) - low) / (high - low)
        heights.append(max(level, heights[-1] + _GAP) if heights else level)
    for index, (name, point, colour) in enumerate(ordered):
        axes.annotate(
            name,
            xy=(float(point.negative), float(point.kept)),
            xytext=(1.015, min(heights[index], 1.0 - _GAP * (len(ordered) - 1 - index))),
            textcoords="axes fraction",
            color=colour,
            va="center",
            fontweight="bold",
            annotation_clip=False,
            parse_math=False,  # a dollar sign in a label is one
            arrowprops={"arrowstyle": "-", "color": colour, "alpha": 0.35, "linewidth": 0.8, "shrinkB": 4},
        )
