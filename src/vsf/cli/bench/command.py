"""`vsf bench`: draw a suite with several settings, judge it, search for better knobs, report."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from vsf.cli import console
from vsf.cli.bench import forecast, inputs
from vsf.cli.bench.options import (
    FactorialOptions,
    JudgeCommandOptions,
    MeasureOptions,
    NewSuiteOptions,
    OnceOptions,
    ReportCommandOptions,
    RunOptions,
    StudyOptions,
    SweepOptions,
    judge_flags,
    read_judge_options,
)
from vsf.cli.options import takes_options

if TYPE_CHECKING:
    from vsf.bench.plan import Plan, Setting
    from vsf.bench.report.files import TextTable
    from vsf.bench.run.draw import ProgressCallback
    from vsf.bench.run.judge import Tally
    from vsf.bench.sweep import Evaluator, Point

_UNFOLDED = 1000  # characters, more than any table of a report has

app = typer.Typer(no_args_is_help=True, help="Compare methods on suites of prompts: draw, judge, search, report.")


@app.command("run", epilog="Example: vsf bench run --suite tiny-dev --methods none,vsf --prompts 20 --out out/first")
@takes_options(RunOptions)
def run_command(options: RunOptions) -> None:
    """Draw every pair of a suite with every setting, one row per image."""
    from vsf.bench.run import estimate
    from vsf.bench.run.draw import run

    folder = inputs.folder_of(options.out)
    task, _ = inputs.task_of(options, folder)
    engine = inputs.drawing_engine(options, task.conditions)
    if options.dry_run:
        # The images do not exist yet, so their judging can only be estimated for the judges of earlier rows.
        drawing = estimate.drawing(folder, task, options.workers or 1)
        judging = estimate.judging_of(folder, drawing.missing)
        lines = [forecast.drawing(drawing), *map(forecast.judging, judging)]
        document = {"drawing": asdict(drawing), "judging": [asdict(entry) for entry in judging]}
        _say("\n".join(lines), document, as_json=options.json)
        return
    images = len(task.settings) * len(task.pairs) * len(task.seeds)
    with progress("drawing", "images", quiet=options.json) as callback:
        drawn = run(folder, task, engine, callback, options.limit)
    line = f"{folder}: {images} images"
    if drawn < images:
        line = f"{folder}: {drawn} of {images} images; the same command without --limit draws the rest"
    _say(line, {"folder": str(folder), "images": drawn}, as_json=options.json)


@app.command("judge", epilog="Example: vsf bench judge --out out/first")
@takes_options(JudgeCommandOptions, judge_flags(), into="judge_flags")
def judge_command(options: JudgeCommandOptions) -> None:
    """Ask a judge about every image of a folder that it has not judged yet; exit 2 if not one got a verdict."""
    from vsf.bench.run import estimate
    from vsf.bench.run.judge import judge as judge_folder

    folder = inputs.folder_of(options.out)
    judge = inputs.judge_of(read_judge_options(options.judge, options.judge_flags), folder)
    if options.dry_run:
        judging = estimate.judging(folder, judge)
        _say(forecast.judging(judging), {"judging": [asdict(judging)]}, as_json=options.json)
        return
    engine = inputs.judging_engine(judge, options.workers, options.concurrency)
    with progress("judging", "images", quiet=options.json) as callback:
        tally = judge_folder(folder, judge, engine, callback, options.limit)
    tally.require_answer()
    _say(f"{folder}: {_describe(tally)}", {"folder": str(folder), **_document(tally)}, as_json=options.json)


@app.command("once", epilog="Example: vsf bench once --suite tiny-dev --prompts 20 --out out/first")
@takes_options(OnceOptions, judge_flags(), into="judge_flags")
def once_command(options: OnceOptions) -> None:
    """Draw, judge, measure and report, one after the other; the same command goes on where it stopped."""
    from vsf.bench.metrics import Change, measure
    from vsf.bench.report import build
    from vsf.bench.run.draw import run
    from vsf.bench.run.judge import judge as judge_folder

    folder = inputs.folder_of(options.out)
    task, _ = inputs.task_of(options, folder)
    judge = inputs.judge_of(read_judge_options(options.judge, options.judge_flags), folder)
    with progress("drawing", "images", quiet=options.json) as callback:
        drawn = run(folder, task, inputs.drawing_engine(options, task.conditions), callback)
    judging_engine = inputs.judging_engine(judge, options.workers, options.concurrency)
    with progress("judging", "images", quiet=options.json) as callback:
        judge_folder(folder, judge, judging_engine, callback).require_answer()
    with progress("measuring", "images", quiet=options.json) as callback:
        measure(folder, Change(), callback)
    with console.busy("computing intervals, drawing plots", quiet=options.json):
        page = build(folder, judges=[judge.name]).page
    _say(str(page), {"folder": str(folder), "images": drawn, "page": str(page)}, as_json=options.json)


@app.command("measure", epilog="Example: vsf bench measure --out out/first")
@takes_options(MeasureOptions)
def measure_command(options: MeasureOptions) -> None:
    """Compare every picture of a folder with the unguided one from the same prompt and noise."""
    from vsf.bench.metrics import METRICS, measure

    folder = inputs.folder_of(options.out)
    metric = METRICS[options.metric]()
    with progress("measuring", "images", quiet=options.json) as callback:
        measured = measure(folder, metric, callback)
    line = f"{folder}: {measured} images measured by {metric.name}"
    _say(line, {"folder": str(folder), "metric": metric.name, "images": measured}, as_json=options.json)


@app.command(
    "sweep", epilog="Example: vsf bench sweep --suite tiny-dev --methods vsf,nag --frontier 8 --out out/curves"
)
@takes_options(SweepOptions, judge_flags(), into="judge_flags")
def sweep_command(options: SweepOptions) -> None:
    """Try each setting at strengths from low to high on a dev suite; the best are frozen for the test suite."""
    from vsf.bench import sweep

    evaluator, plan = _evaluator(options)
    with progress("sweeping", "images", quiet=options.json) as callback:
        curves = _sweep_curves(evaluator, inputs.curves_of(options, plan), options.keep, callback)
    best = [point for curve in curves for point in curve]
    sweep.freeze(evaluator.folder / sweep.FROZEN, [point.setting for point in best])
    if options.kept is not None:
        matched = []
        for curve in curves:
            matched += [point.setting for point in sweep.at_positive_score(curve, options.kept)]
        sweep.freeze(evaluator.folder / sweep.MATCHED, matched)
    if not options.json:
        for point in best:
            scores = {"positive": point.positive, "negative": point.negative, "quality": point.quality}
            text = ", ".join(f"{name} {float(score):.3f}" for name, score in scores.items())
            console.stdout.print(f"{point.setting.label}: {text}", markup=False, highlight=False, soft_wrap=True)
    frozen = evaluator.folder / sweep.FROZEN
    _say(f"{frozen}: {len(best)} settings", {"plan": str(frozen)}, as_json=options.json)


@app.command(
    "factorial",
    epilog="Example: vsf bench factorial --suite tiny-dev --methods vsf,nag --rounds 4x20,1x50 --out out/search",
)
@takes_options(FactorialOptions, judge_flags(), into="judge_flags")
def factorial_command(options: FactorialOptions) -> None:
    """Tune every method in every context with the same budget on a dev suite; one setting of each is frozen."""
    from vsf.bench import factorial, sweep
    from vsf.bench.run.draw import run

    evaluator, plan = _evaluator(options)
    design = factorial.factorial(plan)
    rounds = factorial.read_rounds(options.rounds)
    factorial.check_rounds(rounds, len(evaluator.task.pairs))
    images = design.images(rounds, options.seeds)
    if not options.dry_run and not sweep.seconds_per_image(evaluator.folder):
        # The first batch, which has to be drawn anyway, tells the pace.
        first = replace(evaluator.task, settings=design.cells[0].trials(1))
        run(evaluator.folder, first, evaluator.drawing_engine, lambda *_: None, limit=1)
    seconds = sweep.seconds_per_image(evaluator.folder)
    hours = None if seconds is None else round(images * seconds / (options.workers or 1) / 3600, 2)
    stated = {"cells": len(design.cells), "left_out": dict(design.left_out), "images": images, "hours": hours}
    if not options.json:
        for line in forecast.factorial(design, images, seconds, options.workers or 1):
            console.stdout.print(line, markup=False, highlight=False, soft_wrap=True)
    if options.dry_run:
        if options.json:
            console.print_json(stated)
        return
    with progress("searching", "images", quiet=options.json) as callback:
        result = factorial.search(design, evaluator, rounds, callback)
    lines = []
    for cell, label in result.chosen.items():
        trial = [trial for trial in result.trials if trial.label == label][-1]
        lines.append(f"{label}: full success {trial.success:.3f} on {trial.prompts} prompts")
        lines[-1] += f", hypervolume of the cell {result.hypervolume[cell]:.3f}"
    frozen = evaluator.folder / sweep.FROZEN
    lines.append(f"{frozen}: {len(result.chosen)} settings")
    _say("\n".join(lines), {**stated, "plan": str(frozen), "chosen": result.chosen}, as_json=options.json)


@app.command("report", epilog="Example: vsf bench report out/first")
@takes_options(ReportCommandOptions)
def report_command(options: ReportCommandOptions) -> None:
    """Write a page with tables, curves and examples, and its numbers as CSV, Markdown and pictures; show the tables."""
    from vsf.bench.report import build, files

    with console.busy("computing intervals, drawing plots", quiet=options.json):
        report = build(
            Path(options.folder).expanduser(),
            out=Path(options.out).expanduser() if options.out else None,
            dev=Path(options.dev).expanduser() if options.dev else None,
            also=[Path(folder).expanduser() for folder in options.also or []],
            judges=options.judge or [],
            kept=options.kept,
            reference=options.reference,
            images=options.images,
        )
    if not options.json:
        console.stdout.print(files.answer(report.content), markup=False, highlight=False, soft_wrap=True)
        for table in files.for_people(report.content):
            _show(table)
    document = {
        "page": str(report.page),
        "answer": files.answer(report.content),
        "settings": files.as_records(files.settings_table(report.content)),
        "matched": files.as_records(files.matched_table(report.content)),
    }
    _say(f"{report.page}", document, as_json=options.json)


@app.command("study", epilog="Example: vsf bench study out/first out/for-anna --count 60")
@takes_options(StudyOptions)
def study_command(options: StudyOptions) -> None:
    """Write a blind study for a person to answer; with --answers-of, take the filled sheet as one more judge."""
    from vsf.bench import study

    folder = Path(options.folder).expanduser()
    out = Path(options.study).expanduser()
    if options.answers_of:
        answers = study.read_answers(folder, out, options.answers_of)
        judge = f"human:{options.answers_of}"
        _say(f"{folder}: {answers} answers of {judge}", {"judge": judge, "answers": answers}, as_json=options.json)
        return
    pictures = study.export(folder, out, options.count, labels=options.label or [], seed=options.seed)
    sheet = out / study.SHEET
    _say(f"{sheet}: {pictures} pictures to answer", {"sheet": str(sheet), "pictures": pictures}, as_json=options.json)


@app.command("new-suite", epilog="Example: vsf bench new-suite mine.jsonl --count 50 --writer some-model")
@takes_options(NewSuiteOptions)
def new_suite_command(options: NewSuiteOptions) -> None:
    """Let a language model write further pairs, none like another; the same command goes on where it stopped."""
    from vsf.bench.suites import load as suites
    from vsf.bench.suites.write import extend

    file = options.file
    against = []
    for suite in options.against or []:
        against += suites.load(suite)
    with progress("writing", "pairs", quiet=options.json) as callback:
        pairs = extend(Path(file), options.count, inputs.writer_of(options), against, callback)
    _say(f"{file}: {len(pairs)} pairs", {"file": file, "pairs": len(pairs)}, as_json=options.json)


class _Rate(ProgressColumn):
    """Images per second, or seconds per image, whichever is above 1."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("")
        return Text(f"{speed:.1f}/s" if speed >= 1 else f"{1 / speed:.1f} s each")


@contextmanager
def progress(doing: str, what: str, *, quiet: bool) -> Iterator[ProgressCallback]:
    """Show a bar with rate and remaining time on stderr, and yield the callback that moves it.

    The rate is that of the last hour, because an image of a large model may take minutes.
    """
    columns = (TextColumn(doing), BarColumn(), MofNCompleteColumn(), TextColumn(what), _Rate(), TimeRemainingColumn())
    is_shown = console.stderr.is_terminal and not quiet
    with Progress(
        *columns, console=console.stderr, transient=True, disable=not is_shown, speed_estimate_period=3600
    ) as bar:
        task = bar.add_task(doing, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _evaluator(options: SweepOptions | FactorialOptions) -> tuple[Evaluator, Plan]:
    """Make the evaluator of a search, and the plan that its settings are from."""
    from vsf.bench import sweep

    folder = inputs.folder_of(options.out)
    task, plan = inputs.task_of(options, folder)
    judge = inputs.judge_of(read_judge_options(options.judge, options.judge_flags), folder)
    drawing = inputs.drawing_engine(options, task.conditions)
    judging = inputs.judging_engine(judge, options.workers, options.concurrency)
    return sweep.Evaluator(folder, task, judge, drawing, judging), plan


def _sweep_curves(
    evaluator: Evaluator, curves: list[list[Setting]], keep: int, callback: ProgressCallback
) -> list[list[Point]]:
    """Score all strengths of all curves, and keep of each curve those nearest its frontier."""
    from vsf.bench import sweep

    points = evaluator.points([setting for curve in curves for setting in curve], callback)
    point_by_label = {point.setting.label: point for point in points}
    nearest = []
    for curve in curves:
        scored = [point_by_label[setting.label] for setting in curve if setting.label in point_by_label]
        nearest.append(sweep.nearest_frontier(scored, keep))
    return nearest


def _show(table: TextTable) -> None:
    """Print a table of a report; an empty one is left out."""
    from rich.console import Console
    from rich.table import Table

    if not table.lines:
        return
    shown = Table(title=Text(table.title), title_justify="left", box=None, pad_edge=False)
    for index, name in enumerate(table.head):
        shown.add_column(Text(name), justify="right" if index else "left")
    for line in table.lines:
        shown.add_row(*map(Text, line))
    # In a pipe or a file nothing may be folded to the width of a terminal.
    target = console.stdout if console.stdout.is_terminal else Console(width=_UNFOLDED)
    target.print(shown)


def _say(line: str, document: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        console.print_json(document)
    else:
        # A path may contain brackets, which rich would read as markup, and a folded line could not be copied.
        console.stdout.print(line, markup=False, highlight=False, soft_wrap=True)


def _describe(tally: Tally) -> str:
    """Write such as `400 images judged, 3 unscored (2 refused, 1 no answer), 81234 tokens, 0.0500 US dollars`."""
    parts = [f"{tally.images} images judged"]
    if tally.unscored:
        reasons = ", ".join(f"{count} {reason}" for reason, count in tally.unscored.most_common())
        parts.append(f"{tally.unscored.total()} unscored ({reasons})")
    if tally.tokens is not None:
        parts.append(f"{tally.tokens} tokens")
    if tally.cost is not None:
        parts.append(f"{tally.cost:.4f} US dollars")
    return ", ".join(parts)


def _document(tally: Tally) -> dict[str, Any]:
    return {
        "images": tally.images,
        "unscored": dict(tally.unscored),
        "tokens": tally.tokens,
        "cost": tally.cost,
    }
