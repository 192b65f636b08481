"""The tables and plots of docs/performance.md, written from the rows of the speed benchmark."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
from speed_rows import Row, read_rows

matplotlib.use("agg")

LABELS = {
    "public SD3 processor of the authors (dense mask)": "reference: dense mask (vsf)",
    "public SD3 processor of NAG and NASA (image rows twice)": "reference: doubled rows (nasa)",
    "cfg, batch of two": "reference: CFG in one batch",
}


@dataclass(frozen=True)
class Floor:
    """Sizes of a model at its usual picture, from which follows what a negative of n tokens has to cost.

    width: channels. hidden: of the feed-forward. joint: whether text and image are one sequence. Operations are counted
    in multiplications and additions, one layer, batch 1.
    """

    image: int
    text: int
    width: int
    hidden: int
    joint: bool

    def share(self, negative: int) -> float:
        """Return the operations that the negative adds over those of the unguided layer."""
        tokens, width = self.image + self.text, self.width
        if self.joint:
            one_token = 8 * width**2 + 4 * width * self.hidden
            unguided = tokens * one_token + 4 * tokens**2 * width
            return negative * (one_token + 4 * self.image * width + 4 * (self.image + negative) * width) / unguided
        projections = self.image * 12 * width**2 + self.text * 4 * width**2 + self.image * 4 * width * self.hidden
        unguided = projections + 4 * self.image * width * (self.image + self.text)
        return negative * (4 * width**2 + 4 * self.image * width) / unguided


FLOORS = {
    "SD3.5-Large": Floor(4096, 333, 2432, 4 * 2432, joint=True),
    "FLUX.1": Floor(4096, 512, 3072, 4 * 3072, joint=True),
    "Qwen-Image": Floor(4096, 64, 3072, 4 * 3072, joint=True),
    "Z-Image": Floor(4096, 64, 3840, 6 * 1706, joint=True),  # three matrices of 2/3 the usual hidden size
    "Wan 1.3B": Floor(32760, 512, 1536, 8960, joint=False),
    "Wan 14B": Floor(32760, 512, 5120, 13824, joint=False),
}


def write(results: Path, docs: Path) -> None:
    """Fill every block of docs/performance.md between its marks, and draw the plots."""
    before = read_rows(results / "h100-2026-11-28.jsonl")
    prototype = read_rows(results / "h100-2026-11-28-prototype.jsonl")
    blocks: dict[str, Callable[[], str]] = {
        "floor": floor_table,
        "before": lambda: before_table(before),
        "prototype": lambda: before_table(prototype, name="run"),
        "kernels": lambda: kernel_table(before),
        "gpu": lambda: measured_table(read_rows(results / "speed-gpu.jsonl")),
        "cpu": lambda: measured_table(read_rows(results / "speed-cpu.jsonl")),
        "counts": lambda: count_table(read_rows(results / "speed-cpu.jsonl")),
    }
    page = docs / "performance.md"
    text = page.read_text()
    for name, make in blocks.items():
        pattern = re.compile(rf"(<!-- rows: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        marks = pattern.search(text)
        if marks is None:
            raise SystemExit(f"{page} has no block for {name}: <!-- rows: {name} --> ... <!-- end -->")
        text = f"{text[: marks.start()]}{marks[1]}{make()}\n{marks[2]}{text[marks.end() :]}"
    page.write_text(text)
    plot_ratios(before, prototype, docs / "images" / "performance-ratios.png")
    plot_lengths(before, docs / "images" / "performance-lengths.png")


def table(head: Sequence[str], lines: Sequence[Sequence[Any]]) -> str:
    """Return a Markdown table."""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(str(cell) for cell in row)} |" for row in rows)


def floor_table() -> str:
    """Return what a negative of 8 tokens has to cost."""
    lines = []
    for name, floor in FLOORS.items():
        tokens = floor.image + floor.text
        lines.append(
            [name, floor.image, floor.text, f"{8 / tokens:.2%}", f"{floor.share(8):.2%}", f"{floor.share(64):.2%}"]
        )
    return table(["model", "I", "T", "n/(I+T), n = 8", "operations added, n = 8", "n = 64"], lines)


def before_table(rows: Sequence[Row], name: str = "method") -> str:
    """Return the rows of November 2026, one line for each run."""
    lines = []
    for row in rows:
        if "ratio" not in row:
            continue
        memory = row.get("memory_ratio", row.get("memory"))
        run, spread = LABELS.get(row[name], row[name]), f"{row['lo']:.3f} to {row['hi']:.3f}"
        times = [f"{row['ms']:.1f}", f"{row['ratio']:.3f}", spread, f"{row['launch_ms']:.1f}"]
        lines.append([row["model"], run, *times, f"{memory:.3f}", row.get("syncs", ""), row["n"]])
    head = ["model", "run", "ms", "ratio", "least to greatest", "launching, ms", "memory", "waits", "n"]
    return table(head, lines)


def kernel_table(rows: Sequence[Row]) -> str:
    """Return how long one attention call takes with each of torch's kernels."""
    timed = [row for row in rows if "kernels" in row]
    names = list(timed[0]["ms"])
    return table(["shape", *names], [[row["kernels"], *(f"{row['ms'][name]:.3f}" for name in names)] for row in timed])


def measured_table(rows: Sequence[Row]) -> str:
    """Return the rows of `make bench-speed`, of each setting the latest."""
    places = ("model", "batch", "tokens", "negative", "mode", "hardware", "checkout", "run")
    timed = list({tuple(row[place] for place in places): row for row in rows if "ratio" in row}.values())
    if not timed:
        return "No rows yet."
    lines = []
    for row in timed:
        size = f"{row['model']}, batch {row['batch']}, {row['tokens']} + {row['negative']} tokens, {row['mode']}"
        times = [f"{row['ms']:.2f}", f"{row['ratio']:.4f}", f"{row['lo']:.4f} to {row['hi']:.4f}"]
        against = f"{row['over_against']:.3f}" if "over_against" in row else ""
        memory = f"{row['memory_ratio']:.3f}" if "memory_ratio" in row else ""
        error = "" if row.get("error") is None else f"{row['error']:.0e}"
        lines.append([size, row["checkout"], row["run"], *times, against, memory, error, row["n"]])
    head = ["setting", "code", "run", "ms", "ratio", "95 % interval", "over the other", "memory", "error", "n"]
    hardware = sorted({f"{row['hardware']}, torch {row['torch']}, diffusers {row['diffusers']}" for row in timed})
    return f"{'; '.join(hardware)}.\n\n{table(head, lines)}"


def count_table(rows: Sequence[Row]) -> str:
    """Return the counts per guided joint layer."""
    lines = []
    latest = {(row["checkout"], row["run"]): row for row in rows if "added_operations" in row}
    for row in latest.values():
        if row["run"] != "none":
            figures = ("python_calls", "added_operations", "attention", "fused")
            lines.append([row["checkout"], row["run"], *(f"{row[figure]:g}" for figure in figures)])
    if not lines:
        return "No rows yet."
    head = [
        "code",
        "run",
        "Python calls in attention",
        "operations added",
        "attention calls",
        "fused launches",
    ]
    return table(head, lines)


def plot_ratios(before: Sequence[Row], prototype: Sequence[Row], path: Path) -> None:
    """Draw how many times the unguided model each run took on the H100."""
    models = ["sd3.5-large 1024 eager", "flux.1 1024 eager", "qwen-image 1024 eager", "sdxl 1024 eager"]
    models += ["wan 1.3B 480x832x81 eager", "wan 14B 480x832x81 eager"]
    ratios = {(row["model"], row["method"]): row["ratio"] for row in before if "ratio" in row}
    fused = {row["model"]: row["ratio"] for row in prototype if row.get("run") == "fused vsf" and "ratio" in row}
    runs = {"vsf": "o", "vsf orthogonal": "s", "nag": "^", "public SD3 processor of the authors (dense mask)": "x"}
    figure, axes = plt.subplots(figsize=(7.5, 3.2), layout="constrained")
    for run, marker in runs.items():
        points = [(at, ratios[model, run]) for at, model in enumerate(models) if (model, run) in ratios]
        axes.scatter(*zip(*points, strict=True), marker=marker, label=LABELS.get(run, run))
    points = [(at, fused[model]) for at, model in enumerate(models) if model in fused]
    axes.scatter(*zip(*points, strict=True), marker="*", s=90, label="vsf, prototype of the fused kernel")
    axes.axhline(1, color="grey", linewidth=0.8)
    names = [
        model.removesuffix(" eager").replace(" 480x832x81", "\n480p x 81").replace(" 1024", "\n1024²")
        for model in models
    ]
    axes.set_xticks(range(len(models)), names)
    axes.set(ylabel="time over the unguided model", ylim=(0.95, None))
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def plot_lengths(before: Sequence[Row], path: Path) -> None:
    """Draw the cost over the length of the negative: what was measured, and what it has to be."""
    lengths = [8, 16, 64, 256]
    labels = ["sd3.5-large 1024 eager"] + [
        f"sd3.5-large 1024 eager, {length} negative tokens" for length in lengths[1:]
    ]
    ratios = {row["model"]: row["ratio"] for row in before if row.get("method") == "vsf" and "ratio" in row}
    figure, axes = plt.subplots(figsize=(5, 3), layout="constrained")
    axes.plot(lengths, [ratios[label] for label in labels], "o-", label="SD3.5-Large on an H100, before")
    for name in ("SD3.5-Large", "Wan 1.3B"):
        axes.plot(lengths, [1 + FLOORS[name].share(length) for length in lengths], "--", label=f"floor of {name}")
    axes.set(xlabel="negative tokens", ylabel="time over the unguided model", xscale="log", ylim=(0.95, 2.0))
    axes.set_xticks(lengths, [str(length) for length in lengths])
    axes.minorticks_off()
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)
