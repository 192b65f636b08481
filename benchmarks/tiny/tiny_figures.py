"""Measure the embedded models and their judge: ``python benchmarks/tiny/tiny_figures.py``.

Settings are chosen on dev prompts alone (see settings_search.py); the figures are of test prompts, whose combinations
were never trained on. A stopped run goes on where it was: finished work lies beside the results until the end.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import chain, count
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import agreement
import vsf
from command import app_of, run
from crew import Crew, Rows, Tick
from figure import Figure, table, write
from judge_accuracy import LEVELS, clean_figures, damage_figures
from sampling import Row, Setting, mixed_shots, pipeline, sample, share, spread
from settings_search import FINAL, FORMS, NONE, Search, admissible, scored
from vsf.generation.models import hash_file, hash_folder
from vsf.judges.scenes.judge import WEIGHTS
from vsf.tiny import folder
from vsf.tiny.scenes import PARTS

RESULTS = Path("benchmarks/results/tiny_figures.json")
SEEDS = 2
RENDERS_PER_PROMPT = 10
BASE_PROMPTS = 64  # at most: the teacher's images take some eight times as long
NONE_IN_4 = Setting("none, 4 steps", vsf.method("none"), steps=4)
BASE_NONE = Setting("tiny-base, no guidance", vsf.method("none"), steps=28, guidance_scale=1)
BASE = (
    BASE_NONE,
    replace(BASE_NONE, name="tiny-base, CFG 4", guidance_scale=4),
    replace(BASE_NONE, name="tiny-base, CFG 4 from negative", guidance_scale=4, host_negative=True),
)
BOUNDS = ((0.87, 0.60), (0.97, 0.42))  # at a positive score of at least the first, the negative score of the second
SECONDS = 1.5
Drawn = Mapping[str, Sequence[Row]]
"""Rows by the name of their setting."""


@dataclass(frozen=True)
class Run:
    """One measurement: the process pool, the progress bar, the number of prompts and the seed."""

    crew: Crew
    progress: Progress
    prompts: int
    seed: int

    def judge(self) -> tuple[list[Figure], dict[str, Rows]]:
        """Measure the judge on renders; returns figures, and lists of rows by name."""
        renders = self.prompts * RENDERS_PER_PROMPT
        damaged = max(1, self.prompts // 4)
        clean, answers = clean_figures(self.crew, renders, self.seed, self._tick("judge, clean", renders))
        hurt, damages = damage_figures(self.crew, damaged, self.seed, self._tick("judge, damaged", damaged * LEVELS))
        return clean + hurt, {"judge_answers": answers, "judge_damages": damages}

    def search(self, model: Path) -> tuple[list[Setting], Rows]:
        """Choose the setting to test for each bound; returns them, and the scores of all settings on dev prompts."""
        shots = mixed_shots(FINAL, [self.seed], "dev")
        rounds = count(1)

        def draw(settings: Sequence[Setting], prompts: int) -> Mapping[Setting, Sequence[Row]]:
            first_shots = shots[: min(prompts, self.prompts)]
            tick = self._tick(f"dev prompts, round {next(rounds)} of 3", len(first_shots) * len(settings))
            return sample(self.crew, model, settings, first_shots, tick)

        search = Search(draw, FORMS, self.prompts * SEEDS)
        chosen = search.run([positive for positive, _ in BOUNDS])
        return chosen, search.table()

    def test(self, model: Path, settings: Sequence[Setting], prompts: int, seeds: int) -> Drawn:
        """Draw and judge the test prompts."""
        shots = mixed_shots(prompts, range(self.seed, self.seed + seeds), "test")
        settings = list(dict.fromkeys(settings))
        tick = self._tick(f"test prompts, {model.name}", len(shots) * len(settings))
        rows_of_setting = sample(self.crew, model, settings, shots, tick)
        return {setting.name: rows for setting, rows in rows_of_setting.items()}

    def _tick(self, what: str, total: int) -> Tick:
        task = self.progress.add_task(what, total=total)
        return lambda done: self.progress.advance(task, done)


def main(
    prompts: Annotated[int, typer.Option(min=1, help="Test prompts, each drawn from two seeds.")] = 400,
    seed: Annotated[int, typer.Option(help="Decides the order of prompts and the noise.")] = 0,
    model: Annotated[Path | None, typer.Option(help="A pipeline folder instead of the embedded model.")] = None,
    base: Annotated[Path | None, typer.Option(help="A pipeline folder instead of its teacher.")] = None,
    out: Annotated[Path, typer.Option(help="The JSON file to write.")] = RESULTS,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one for each core if not given.")] = None,
) -> None:
    """Measure, print every figure beside its bound, write them, and exit with 1 when one falls short."""
    student = model or folder()
    teacher = base or folder("tiny-base")
    weights = {"tiny": hash_folder(student), "tiny-base": hash_folder(teacher), "judge": hash_file(WEIGHTS)}
    unfinished = out.with_suffix(".unfinished.jsonl")
    # Results of other weights, or of another version of the code, are drawn again.
    crew = Crew(unfinished, f"{vsf.__version__} {weights}", workers or torch.get_num_threads())
    with _resumable(unfinished), _progress() as progress, crew:
        work = Run(crew, progress, prompts, seed)
        figures, lists = work.judge()
        chosen, lists["dev_trials"] = work.search(student)
        rows = work.test(student, [NONE, NONE_IN_4, *chosen], prompts, SEEDS)
        base_rows = work.test(teacher, BASE, min(prompts, BASE_PROMPTS), 1)
    figures += [unreadable_figure(rows), *unguided_figures(rows)]
    for setting, bound in zip(chosen, BOUNDS, strict=True):
        figures.append(guided_figure(rows, setting.name, *bound))
    for setting in BASE:
        figures += base_figures(base_rows, setting.name)
    took = seconds(pipeline(student))
    figures.append(Figure("seconds for transformer and decoding, 8 steps", took, high=SECONDS, note=cores()))
    figures.append(agreement.figure(weights["tiny"]))
    typer.echo(table(figures))
    lists["rows"] = list(map(asdict, chain(*rows.values(), *base_rows.values())))
    write(out, figures, about=[{"prompts": prompts, "seeds": SEEDS, "weights": weights}], **lists)
    unfinished.unlink()
    raise typer.Exit(1 if any(figure.held is False for figure in figures) else 0)


def unreadable_figure(rows: Drawn) -> Figure:
    """Unreadable images are excluded from all scores, so report how many there are."""
    all_rows = list(chain.from_iterable(rows.values()))
    unreadable = sum(row.quality is None for row in all_rows)
    note = f"{unreadable} of {len(all_rows)}"
    return Figure("pictures that the judge could not read", unreadable / len(all_rows), high=0.0, note=note)


def unguided_figures(rows: Drawn) -> list[Figure]:
    """Compute how well the model follows its prompt without guidance."""
    figures = []
    for setting in (NONE, NONE_IN_4):
        for column, low in (("object", 0.97), ("colour", 0.95), ("background", 0.95)):
            name = f"no guidance, {setting.steps} steps: {column} right"
            figures.append(share_figure(name, rows[setting.name], column, low=low))
    plain = rows[NONE.name]
    naming = []
    for row in plain:
        if not set(PARTS).isdisjoint(row.prompt.split()):
            naming.append(row)
    note = f"{len(naming)} images whose prompt names one"
    drawn = "no guidance: parts named in the prompt are drawn"
    figures.append(share_figure(drawn, naming, "named", low=0.93, note=note))
    absent = "no guidance: essential part not named is absent"
    figures.append(share_figure(absent, plain, "part_gone", low=0.13, high=0.27))
    return figures


def share_figure(name: str, rows: Sequence[Row], column: str, **rest: Any) -> Figure:
    """Make the figure of how often a column is true."""
    return Figure(name, share(rows, column), spread=spread(rows, column), **rest)


def guided_figure(rows: Drawn, chosen: str, positive: float, negative: float) -> Figure:
    """Make the figure of the setting chosen for a bound: its negative score, if it keeps bound and quality here, too.

    It has to keep them even if every unreadable picture shows nothing, in a quality of 0.
    """
    score = scored(rows[chosen])
    unguided = scored(rows[NONE.name])
    name = f"VSF: negative score with positive ≥ {positive:g}"
    visible = spread(rows[chosen], "object")
    gone = spread(rows[chosen], "part_gone")
    if visible is None or score["positive"] is None or score["quality"] is None or unguided["quality"] is None:
        return Figure(name, None, low=negative, note=f"{chosen}: no picture could be read", spread=gone)
    note = f"{chosen}: positive {score['positive']:.3f}, quality {score['quality'] - unguided['quality']:+.3f}"
    readable = sum(row.quality is not None for row in rows[chosen]) / len(rows[chosen])
    worst_case = {**score, "positive": visible[0], "quality": score["quality"] * readable}
    if admissible(worst_case, unguided, positive):
        return Figure(name, score["negative"], low=negative, note=note, spread=gone)
    # No guidance is a setting, too: it keeps everything, and removes what is missing by chance.
    fallback = f"none's; {note}, negative {score['negative']:.3f} does not keep the bound"
    return Figure(name, unguided["negative"], low=negative, note=fallback, spread=spread(rows[NONE.name], "part_gone"))


def base_figures(rows: Drawn, name: str) -> list[Figure]:
    """Make the figures of the teacher, which are there for comparison and have no bounds."""
    score = scored(rows[name])
    images = f"{len(rows[name])} images"
    figures = []
    for column in ("positive", "negative", "quality"):
        figures.append(Figure(f"{name}: {column}", score[column], note=images))
    return figures


def seconds(pipe: Any) -> float:
    """Return the median seconds for one image once its prompt is encoded."""
    rows, _, pooled, _ = pipe.encode_prompt("a red car on snow", None, None, do_classifier_free_guidance=False)
    times = []
    for _ in range(6):
        began = time.perf_counter()
        pipe(prompt_embeds=rows, pooled_prompt_embeds=pooled, num_inference_steps=8, guidance_scale=0.0)
        times.append(time.perf_counter() - began)
    return round(statistics.median(times[1:]), 3)  # the first call warms up


def cores() -> str:
    """Name the number of threads that torch uses here."""
    number = torch.get_num_threads()
    return f"{number} core{'s' if number > 1 else ''}"


@contextmanager
def _resumable(kept: Path) -> Iterator[None]:
    """Say after Ctrl-C where the finished work is."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"Stopped. What is finished lies in {kept}; give the same command again to go on.", err=True)
        raise typer.Exit(130) from None


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, transient=True)


if __name__ == "__main__":
    run(app_of(main))
