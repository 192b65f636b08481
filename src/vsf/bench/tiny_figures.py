"""The figures of the embedded model and its judge: ``python -m vsf.bench.tiny_figures``.

Settings are chosen on dev prompts alone; the figures are of test prompts, whose combinations were never trained on.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

import vsf
from vsf.bench.damage import DAMAGES
from vsf.bench.figure import Figure, table, write
from vsf.bench.judging import clean_figures, damage_figures
from vsf.bench.sampling import Row, Setting, Tick, sample, share
from vsf.tiny import folder, read
from vsf.tiny.scenes import prompt_pairs

SEEDS = (0, 1)
DEV_PROMPTS = 64
RENDERS_PER_PROMPT = 10
LEVELS = sum(1 + len(damage.levels) for damage in DAMAGES.values())
NONE = Setting("none", vsf.method("none"))
NONE_IN_4 = Setting("none, 4 steps", vsf.method("none"), steps=4)
STRENGTHS = ((0.5, 0.0), (0.75, 0.0), (1.0, 0.0), (2.0, 0.0), (4.0, 0.0), (6.0, 0.0), (8.0, 1.5))  # scale, offset
SPECIAL_TOKENS: tuple[Literal["keep", "strip"], ...] = ("keep", "strip")
GRID = tuple(
    Setting(
        f"vsf scale={scale:g} offset={offset:g} tokens={tokens}{' orthogonal' if orthogonal else ''}",
        vsf.ValueSignFlip(scale=scale, offset=offset, special_tokens=tokens, orthogonal=orthogonal),
    )
    for tokens, orthogonal, (scale, offset) in product(SPECIAL_TOKENS, (False, True), STRENGTHS)
)
BOUNDS = ((0.87, 0.60), (0.97, 0.42))  # at a positive score of at least the first, the negative score of the second
QUALITY_LOSS = 0.05
Scores = dict[str, float | None]
MARGINS = (0.0, 0.02)  # above each bound the best setting on dev prompts goes on to the test prompts
SECONDS = 1.5


def main(
    prompts: Annotated[int, typer.Option(min=1, help="Test prompts, each drawn from two seeds.")] = 400,
    seed: Annotated[int, typer.Option(help="Decides the order of prompts and the noise.")] = 0,
    model: Annotated[Path | None, typer.Option(help="A pipeline folder instead of the embedded model.")] = None,
    out: Annotated[Path, typer.Option(help="The JSON file to write.")] = Path("benchmarks/results/tiny_figures.json"),
) -> None:
    """Measure, print every figure beside its bound, write them, and exit with 1 when one falls short."""
    pipe = read(model or folder())
    pipe.set_progress_bar_config(disable=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as progress:
        renders, damaged = prompts * RENDERS_PER_PROMPT, max(1, prompts // 4)
        figures, answers = clean_figures(renders, seed, _tick(progress, "judge, clean", renders))
        more, damages = damage_figures(damaged, seed, _tick(progress, "judge, damaged", damaged * LEVELS))
        figures += more
        chosen, grid = tune(pipe, min(prompts, DEV_PROMPTS), seed, progress)
        rows = measure(pipe, chosen, prompts, seed, progress)
    figures.append(unreadable_figure([row for group in rows.values() for row in group]))
    figures += unguided_figures(rows) + [guided_figure(rows, *bound) for bound in BOUNDS]
    figures.append(Figure("seconds for transformer and decoding, 8 steps", seconds(pipe), high=SECONDS))
    figures.append(Figure("judge agrees with a careful look", None, low=0.95, note="needs a human"))
    typer.echo(table(figures))
    drawn = [asdict(row) for group in rows.values() for row in group]
    write(out, figures, judge_answers=answers, judge_damages=damages, dev_grid=grid, rows=drawn)
    raise typer.Exit(1 if any(figure.held is False for figure in figures) else 0)


def tune(pipe: Any, prompts: int, seed: int, progress: Progress) -> tuple[list[Setting], list[dict[str, Any]]]:
    """The settings that do best on dev prompts within each bound, and what every setting scored there."""
    pairs, settings = prompt_pairs(prompts, seed=seed, split="dev"), (NONE, *GRID)
    tick = _tick(progress, "dev grid", len(pairs) * len(settings))
    scores = {setting: scored(sample(pipe, setting, pairs, [seed], tick)) for setting in settings}
    chosen: dict[Setting, None] = {}
    for (positive, _), margin in product(BOUNDS, MARGINS):
        fit = [setting for setting in GRID if admissible(scores[setting], scores[NONE], positive + margin)]
        # With none admissible the gentlest goes on, so that the figure says how far off the model is.
        best = max(fit, key=lambda setting: scores[setting]["negative"] or 0, default=None)
        chosen[best or max(GRID, key=lambda setting: scores[setting]["positive"] or 0)] = None
    return list(chosen), [{"setting": setting.name, **score} for setting, score in scores.items()]


def measure(pipe: Any, chosen: Sequence[Setting], prompts: int, seed: int, progress: Progress) -> dict[str, list[Row]]:
    """The rows of the test prompts, by setting."""
    pairs, settings = prompt_pairs(prompts, seed=seed, split="test"), (NONE, NONE_IN_4, *chosen)
    seeds = [seed + index for index in SEEDS]
    tick = _tick(progress, "test prompts", len(pairs) * len(seeds) * len(settings))
    return {setting.name: sample(pipe, setting, pairs, seeds, tick) for setting in settings}


def scored(rows: Sequence[Row]) -> Scores:
    """The three scores of a setting, and how often colour and background are right."""
    columns = {"positive": "object", "negative": "part_gone", "quality": "quality"}
    scores = {name: share(rows, column) for name, column in columns.items()}
    return {**scores, "colour": share(rows, "colour"), "background": share(rows, "background")}


def admissible(scores: Scores, unguided: Scores, positive: float) -> bool:
    """Whether a setting keeps the positive score and the quality."""
    kept, quality, reference = scores["positive"], scores["quality"], unguided["quality"]
    if kept is None or quality is None or reference is None:
        return False
    return kept >= positive and quality >= reference - QUALITY_LOSS


def unreadable_figure(rows: Sequence[Row]) -> Figure:
    """Unreadable pictures are left out of every score, so not one is let pass in silence."""
    unreadable = sum(row.quality is None for row in rows)
    return Figure("pictures that the judge could not read", unreadable / len(rows), high=0.0, note=f"{unreadable}")


def unguided_figures(rows: dict[str, list[Row]]) -> list[Figure]:
    """What the model draws without guidance."""
    figures = []
    for setting in (NONE, NONE_IN_4):
        for column, low in (("object", 0.97), ("colour", 0.95), ("background", 0.95)):
            value = share(rows[setting.name], column)
            figures.append(Figure(f"no guidance, {setting.steps} steps: {column} right", value, low=low))
    plain = rows[NONE.name]
    told = [row for row in plain if row.named is not None]
    named = share(told, "named") if told else None
    note = f"{len(told)} images" if told else "too few prompts: none names a part"
    figures.append(Figure("no guidance: parts named in the prompt are drawn", named, low=0.93, note=note))
    gone = share(plain, "part_gone")
    figures.append(Figure("no guidance: essential part not named is absent", gone, low=0.13, high=0.27))
    return figures


def guided_figure(rows: dict[str, list[Row]], positive: float, negative: float) -> Figure:
    """The best negative score among the settings tried that keep the positive score and the quality."""
    scores = {name: scored(group) for name, group in rows.items()}
    unguided = scores[NONE.name]
    name = f"VSF: negative score with positive ≥ {positive:g}"
    tried = {key: value for key, value in scores.items() if key.startswith("vsf")}
    fit = [key for key, value in tried.items() if admissible(value, unguided, positive)]
    if not fit:
        # No guidance is a setting, too: it keeps everything and removes what is missing by chance.
        return Figure(name, unguided["negative"], low=negative, note="no setting tried keeps that; this is none's")
    best = max(fit, key=lambda key: tried[key]["negative"] or 0)
    score = tried[best]
    gain = (score["quality"] or 0) - (unguided["quality"] or 0)  # neither is None in an admissible setting
    return Figure(
        name, score["negative"], low=negative, note=f"{best}: positive {score['positive']:.3f}, quality {gain:+.3f}"
    )


def seconds(pipe: Any) -> float:
    """Median wall-clock time of one image once its prompt is encoded."""
    rows, _, pooled, _ = pipe.encode_prompt("a red car on snow", None, None, do_classifier_free_guidance=False)
    times = []
    for _ in range(6):
        began = time.perf_counter()
        pipe(prompt_embeds=rows, pooled_prompt_embeds=pooled, num_inference_steps=8, guidance_scale=0.0)
        times.append(time.perf_counter() - began)
    return round(statistics.median(times[1:]), 3)  # the first call warms up


def _tick(progress: Progress, what: str, total: int) -> Tick:
    task: TaskID = progress.add_task(what, total=total)
    return lambda done: progress.advance(task, done)


if __name__ == "__main__":
    typer.run(main)
