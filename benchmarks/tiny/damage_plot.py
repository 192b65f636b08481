"""Plot how the judge bears damage, from the rows of the figures: ``python benchmarks/tiny/damage_plot.py``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from command import app_of, run
from tiny_figures import RESULTS
from vsf.errors import RequestError

UNITS = {
    "blur": "blur, pixels",
    "noise": "noise, share of the full range",
    "patch shuffle": "share of patches shuffled",
    "half-erased": "share of the object erased",
}
QUALITY = "#2563eb"
PARTS = "#d97706"
UNREADABLE = "#71717a"
Level = Mapping[str, Any]


def main(
    results: Annotated[Path, typer.Option(help="The figures with their rows.")] = RESULTS,
    out: Annotated[Path, typer.Option(help="The PNG file to write.")] = Path("docs/images/judge-damage.png"),
) -> None:
    """Draw quality and part verdicts against the strength of each corruption."""
    from matplotlib.figure import Figure

    damages = rows_of(results)
    sheet = Figure(figsize=(4 * len(damages), 4), layout="constrained")
    axes = sheet.subplots(1, len(damages), sharey=True, squeeze=False)[0]
    for axis, (damage, levels) in zip(axes, damages.items(), strict=True):
        draw(axis, levels)
        axis.set_xlabel(UNITS[damage])
    axes[0].set_ylabel("share, or quality from 0 to 1")
    count = len(next(iter(damages.values()))[0]["quality"])
    sheet.suptitle(f"The judge on {count} rendered scenes that were damaged")
    sheet.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet.savefig(out, dpi=100)
    typer.echo(f"The plot is in {out}.")


def rows_of(results: Path) -> dict[str, list[Level]]:
    """Read the levels of each corruption, from none to severe. Raises RequestError if there are none."""
    try:
        rows = json.loads(results.read_text(encoding="utf-8"))["judge_damages"]
    except (OSError, KeyError, ValueError) as error:
        raise RequestError(
            f'"{results}" holds no figures: "python benchmarks/tiny/tiny_figures.py" comes first.'
        ) from error
    damages: dict[str, list[Level]] = {}
    for row in rows:
        damages.setdefault(row["damage"], []).append(row)
    return damages


def draw(axis: Any, levels: Sequence[Level]) -> None:
    """Draw one corruption: mean quality with the middle half of the images, part verdicts, and unreadable images.

    An unreadable image has no quality and no verdict, so it only shows in the grey bars.
    """
    import numpy as np

    at = [row["level"] for row in levels]
    unread = []
    mean = []
    low = []
    high = []
    for row in levels:
        quality = np.array([value for value in row["quality"] if value is not None])
        # An unreadable image has no quality; a level at which none can be read leaves a gap in the lines.
        unread.append((len(row["quality"]) - len(quality)) / len(row["quality"]))
        mean.append(quality.mean() if len(quality) else np.nan)
        low.append(np.quantile(quality, 0.25) if len(quality) else np.nan)
        high.append(np.quantile(quality, 0.75) if len(quality) else np.nan)
    parts = [np.nan if row["parts"] is None else row["parts"] for row in levels]
    axis.bar(at, unread, width=max(at) * 0.05, color=UNREADABLE, alpha=0.5, label="images that cannot be read")
    axis.fill_between(at, low, high, color=QUALITY, alpha=0.15, label="quality, middle half of the images")
    axis.plot(at, mean, "o-", color=QUALITY, label="quality, mean of what can be read")
    axis.plot(at, parts, "s-", color=PARTS, label="part verdicts that are right")
    axis.set_ylim(-0.02, 1.04)
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    run(app_of(main))
