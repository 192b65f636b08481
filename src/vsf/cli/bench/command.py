"""`vsf bench`: draw a suite with several settings, judge it, search for better knobs, report."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from vsf.cli import console
from vsf.cli.bench import forecast
from vsf.cli.bench import inputs as bench_inputs
from vsf.cli.options import JSON, flag, takes
from vsf.errors import RequestError

if TYPE_CHECKING:
    from vsf.bench.report.files import TextTable
    from vsf.bench.run.draw import Tick
    from vsf.bench.run.judge import Tally

_UNFOLDED = 1000  # characters, more than any table of a report has

app = typer.Typer(no_args_is_help=True, help="Compare methods on suites of prompts: draw, judge, search, report.")
FOLDER = Parameter(
    "folder", Parameter.KEYWORD_ONLY, default=typer.Argument(help="A folder of rows and verdicts."), annotation=str
)
OUT = flag("out", str, "The folder of images, rows and verdicts; the same command goes on where it stopped.")
DRAWING = [
    flag("suite", str, "A shipped suite, or a JSON or JSONL file of pairs."),
    flag("model", str, "An embedded model, a folder, a checkpoint or a hub id (id@revision)."),
    flag("methods", str, "none,nag++,vsf:scale=2,offset=.5,vsf:preset=strong, or a .toml or .json plan."),
    flag("steps", int, "Denoising steps, where a plan does not say.", default=8),
    flag("seeds", int, "Images of each pair and setting.", default=2),
    flag("prompts", int, "The first so many pairs of the suite; all if not given."),
    flag("size", str, "Side, or WIDTHxHEIGHT, in pixels. Left to the model if not given."),
    flag("frames", int, "Length of a clip, for video models; four of them are kept and judged."),
    flag("dtype", str, "auto, float32, float16 or bfloat16."),
    flag("device", str, "cpu, cuda, cuda:1, mps, or auto."),
    flag("batch", int, "Prompts drawn at a time. (default 32 on embedded models, 1 on others)"),
    flag("threads", int, "CPU threads of each worker. (default: what there is, shared out)"),
    flag("engine", str, "local or ray.", default="local"),
    flag("workers", int, "Processes, or actors. (default 1 process, or all actors that the cluster has room for)"),
    flag("address", str, "Of the Ray cluster, as ray.init takes it.", default="auto"),
]
LIMIT = flag("limit", int, "Stop after so many images; the same command goes on with the rest.")
DRY_RUN = flag(
    "dry_run",
    bool,
    "Only say how many images there are to do, and from those done so far how long or how dear that is.",
    spelled="--dry-run",
)
ENDPOINT = [
    flag("endpoint", str, "Where the language model answers, such as http://localhost:8000/v1."),
    flag("key_env", str, "The environment variable that holds the API key.", default=bench_inputs.KEY_ENV),
]
JUDGING = [
    flag(
        "judge",
        str,
        "scenes (embedded models), openai (any endpoint that speaks its protocol) or local.",
        default="scenes",
    ),
    flag("judge_model", str, "The vision-language model that judges."),
    flag("judge_device", str, "Where a local one computes: cpu, cuda, cuda:1, mps or auto.", default="auto"),
    *ENDPOINT,
    flag("price", str, "US dollars per million tokens read, and written, such as 0.2,0.6."),
    flag("concurrency", int, "Calls at a time to a judge behind a network.", default=8),
    flag("timeout", float, "Seconds that such a judge may take to answer; then it is asked again.", default=90.0),
]


@app.command("run", epilog="Example: vsf bench run --suite tiny-dev --methods none,vsf --prompts 20 --out out/first")
@takes([*DRAWING, LIMIT, DRY_RUN, OUT, JSON])
def run_command(**flags: Any) -> None:
    """Draw every pair of a suite with every setting, one row per image."""
    from vsf.bench.run import estimate
    from vsf.bench.run.draw import run

    given = bench_inputs.Given(flags)
    folder = given.folder()
    task = given.task(folder)
    engine = given.engine(task.conditions)
    if flags["dry_run"]:
        drawing = estimate.drawing(folder, task, given["workers"] or 1)
        judging = estimate.judging_of(folder, drawing.missing)
        told = [forecast.drawing(drawing), *map(forecast.judging, judging)]
        _say(given, "\n".join(told), {"drawing": asdict(drawing), "judging": [asdict(entry) for entry in judging]})
        return
    images = len(task.settings) * len(task.pairs) * len(task.seeds)
    with progress("drawing", "images", quiet=given.quiet) as tick:
        drawn = run(folder, task, engine, tick, given["limit"])
    line = f"{folder}: {images} images"
    if drawn < images:
        line = f"{folder}: {drawn} of {images} images; the same command without --limit draws the rest"
    _say(given, line, {"folder": str(folder), "images": drawn})


@app.command("judge", epilog="Example: vsf bench judge --out out/first")
@takes(
    [
        *JUDGING,
        flag("workers", int, "Processes, for a judge that computes here.", default=1),
        LIMIT,
        DRY_RUN,
        OUT,
        JSON,
    ]
)
def judge_command(**flags: Any) -> None:
    """Ask a judge about every image of a folder that it has not judged yet; exit 2 if not one got a verdict."""
    from vsf.bench.run import estimate
    from vsf.bench.run.judge import judge

    given = bench_inputs.Given(flags)
    folder, asked = given.folder(), given.judge()
    if flags["dry_run"]:
        judging = estimate.judging(folder, asked)
        _say(given, forecast.judging(judging), {"judging": [asdict(judging)]})
        return
    with progress("judging", "images", quiet=given.quiet) as tick:
        tally = judge(folder, asked, given.judging_engine(asked), tick, given["limit"])
    tally.require_answer()
    _say(given, f"{folder}: {_told(tally)}", {"folder": str(folder), **_counted(tally)})


@app.command("sweep", epilog="Example: vsf bench sweep --suite tiny-dev --methods vsf,nag --trials 40 --out out/search")
@takes(
    [
        *DRAWING,
        *JUDGING,
        flag("trials", int, "Settings tried of each method; knobs named in --methods stay fixed.", default=40),
        flag("frontier", int, "Instead of a search: so many strengths of each setting, from low to high."),
        flag("knob", str, "With --frontier: the knob that is its strength.", default="scale"),
        flag(
            "range",
            str,
            "With --frontier: its strengths, LOW,HIGH. (default: the plan's, or all that the knob allows)",
        ),
        flag("keep", int, "With --frontier: the strengths nearest the frontier that are frozen.", default=6),
        flag("kept", float, "With --frontier: a positive score; what keeps it is frozen in matched.json, too."),
        OUT,
        JSON,
    ]
)
def sweep_command(**flags: Any) -> None:
    """Search the knobs of each method on a dev suite; the best are frozen as a plan for the test suite."""
    from vsf.bench import sweep

    given = bench_inputs.Given(flags)
    if flags["kept"] is not None and not flags["frontier"]:
        raise RequestError("--kept goes with --frontier: without it there are no curves to compare.")
    folder = given.folder()
    task, asked = given.task(folder), given.judge()
    trying = sweep.Trying(folder, task, asked, given.engine(task.conditions), given.judging_engine(asked))
    with progress("sweeping", "images", quiet=given.quiet) as tick:
        if flags["frontier"]:
            curves = given.curves(task)
            points = trying.points([setting for curve in curves for setting in curve], tick)
            found = {point.setting.label: point for point in points}
            nearest = [
                sweep.nearest_frontier([found[each.label] for each in curve if each.label in found], given["keep"])
                for curve in curves
            ]
            best = [point for curve in nearest for point in curve]
        else:
            nearest, best = [], sweep.search(trying, task.settings, given["trials"], tick)
    sweep.freeze(folder / sweep.FROZEN, best)
    if flags["kept"] is not None:
        matched = [point for curve in nearest for point in sweep.keeping(curve, flags["kept"])]
        sweep.freeze(folder / sweep.MATCHED, matched)
    for point in [] if given.quiet else best:
        named = {"positive": point.positive, "negative": point.negative, "quality": point.quality}
        scores = ", ".join(f"{name} {float(score):.3f}" for name, score in named.items())
        console.stdout.print(f"{point.setting.label}: {scores}", markup=False, highlight=False, soft_wrap=True)
    _say(given, f"{folder / sweep.FROZEN}: {len(best)} settings", {"plan": str(folder / sweep.FROZEN)})


@app.command("report", epilog="Example: vsf bench report out/first")
@takes(
    [
        FOLDER,
        flag(
            "dev", str, "A folder of the same settings on dev prompts, on which strengths are matched.", metavar="DIR"
        ),
        flag("out", str, "Where the report goes; into the folder itself if not given.", metavar="DIR"),
        flag("judge", str, "Whose verdicts count, where there are several: a name such as openai:MODEL."),
        flag("kept", float, "The positive score at which methods are compared.", default=0.9),
        flag("reference", str, "The setting that the others are compared with; the first of vsf if not given."),
        flag(
            "images",
            bool,
            "Write report/images.jsonl, too: one line per image, its row and verdict.",
            spelled="--images",
        ),
        JSON,
    ]
)
def report_command(**flags: Any) -> None:
    """Write a page with tables, curves and examples, and its numbers as CSV, Markdown and pictures; show the tables."""
    from vsf.bench.report import build, files

    given = bench_inputs.Given(flags)
    wanted = {name: flags[name] for name in ("judge", "kept", "reference", "images") if flags[name] is not None}
    wanted |= {name: Path(flags[name]).expanduser() for name in ("dev", "out") if flags[name]}
    report = build(Path(flags["folder"]).expanduser(), **wanted)
    if not given.quiet:
        for table in files.for_people(report.content):
            _show(table)
    numbers = {
        "settings": files.as_records(files.settings_table(report.content)),
        "matched": files.as_records(files.matched_table(report.content)),
    }
    _say(given, f"{report.page}", {"page": str(report.page), **numbers})


@app.command("new-suite", epilog="Example: vsf bench new-suite mine.jsonl --count 50 --writer some-model")
@takes(
    [
        Parameter(
            "file", Parameter.KEYWORD_ONLY, default=typer.Argument(help="The JSONL file to fill."), annotation=str
        ),
        flag("count", int, "How many pairs it is to hold.", default=100),
        flag("writer", str, "The language model that writes them."),
        flag("batch", int, "Pairs to a request.", default=10),
        flag("against", list[str], "A suite whose pairs are not to be repeated; may be repeated.", metavar="SUITE"),
        *ENDPOINT,
        JSON,
    ]
)
def new_suite_command(**flags: Any) -> None:
    """Let a language model write further pairs, none like another; the same command goes on where it stopped."""
    from vsf.bench.suites import load as suites
    from vsf.bench.suites.write import extend

    given = bench_inputs.Given({"count": 100, "batch": 10, **{k: v for k, v in flags.items() if v is not None}})
    against = [pair for suite in flags["against"] or [] for pair in suites.load(suite)]
    with progress("writing", "pairs", quiet=given.quiet) as tick:
        pairs = extend(Path(flags["file"]), given["count"], given.author(), against, tick)
    _say(given, f"{flags['file']}: {len(pairs)} pairs", {"file": flags["file"], "pairs": len(pairs)})


class _Rate(ProgressColumn):
    """How many a second, or how many seconds each takes, whichever reads better."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("")
        return Text(f"{speed:.1f}/s" if speed >= 1 else f"{1 / speed:.1f} s each")


@contextmanager
def progress(doing: str, what: str, *, quiet: bool) -> Iterator[Tick]:
    """A bar with rate and time left on stderr; yields the callback that moves it.

    The rate is that of the last hour: an image of a large model may take minutes.
    """
    columns = (TextColumn(doing), BarColumn(), MofNCompleteColumn(), TextColumn(what), _Rate(), TimeRemainingColumn())
    shown = console.stderr.is_terminal and not quiet
    with Progress(
        *columns, console=console.stderr, transient=True, disable=not shown, speed_estimate_period=3600
    ) as bar:
        task = bar.add_task(doing, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _show(table: TextTable) -> None:
    """Print a table of a report; one that is empty is left out."""
    from rich.console import Console
    from rich.table import Table

    if not table.lines:
        return
    shown = Table(title=Text(table.title), title_justify="left", box=None, pad_edge=False)
    for index, name in enumerate(table.head):
        shown.add_column(Text(name), justify="right" if index else "left")
    for line in table.lines:
        shown.add_row(*map(Text, line))
    # In a pipe or a file nothing is to be folded to the width of a terminal.
    target = console.stdout if console.stdout.is_terminal else Console(width=_UNFOLDED)
    target.print(shown)


def _say(given: bench_inputs.Given, line: str, document: dict[str, Any]) -> None:
    if given.quiet:
        console.print_json(document)
    else:
        console.stdout.print(line, markup=False, highlight=False, soft_wrap=True)


def _told(tally: Tally) -> str:
    """`400 images judged, 3 unscored (2 refused, 1 no answer), 81234 tokens, 0.05 US dollars`."""
    parts = [f"{tally.images} images judged"]
    if tally.unscored:
        reasons = ", ".join(f"{count} {reason}" for reason, count in tally.unscored.most_common())
        parts.append(f"{tally.unscored.total()} unscored ({reasons})")
    if tally.tokens is not None:
        parts.append(f"{tally.tokens} tokens")
    if tally.cost is not None:
        parts.append(f"{tally.cost:.4f} US dollars")
    return ", ".join(parts)


def _counted(tally: Tally) -> dict[str, Any]:
    return {
        "images": tally.images,
        "unscored": dict(tally.unscored),
        "tokens": tally.tokens,
        "cost": tally.cost,
    }
