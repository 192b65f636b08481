"""Show every method at its best strength, side by side: ``python benchmarks/tiny/methods_sheet.py``.

Of a handful of strengths the best removes most on dev prompts while the object stays (positive score and quality close
to no guidance). The sheet then shows test prompts. It is to look at; for numbers there is the benchmark.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import torch
import typer
from rich.progress import Progress

import vsf
from command import app_of, run
from crew import Crew
from figure import write
from sampling import Row, Setting, Shot, draw, mixed_shots, pipeline, sample
from settings_search import NONE, QUALITY_LOSS, WINDOW, scored
from vsf.generation.models import hash_folder
from vsf.generation.sheet import contact_sheet
from vsf.judges.base import Question
from vsf.judges.scenes.judge import Reading, answer, look
from vsf.tiny import folder

if TYPE_CHECKING:
    from PIL.Image import Image

RESULTS = Path("benchmarks/results/methods_dev.json")
PICTURE = Path("docs/images/methods.png")
POSITIVE_LOSS = 0.08
SHOWN = 4
STRENGTHS: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "vsf": [{"scale": scale} for scale in (0.5, 1.0, 1.5, 2.0, 3.0)],
    "vsf orthogonal": [
        {"scale": scale, "orthogonal": True, "special_tokens": "strip"} for scale in (1.5, 2.5, 3.5, 5.0, 7.0)
    ],
    "vsf in context": [{"scale": scale, "orthogonal": True} for scale in (2.0, 3.5, 5.0, 7.0, 10.0)],
    "nag": [
        {**vsf.NormalizedAttentionGuidance.PRESETS["nag"], "scale": scale} for scale in (4.0, 8.0, 12.0, 16.0, 20.0)
    ],
    "nag++": [
        {**vsf.NormalizedAttentionGuidance.PRESETS["nag++"], "scale": scale} for scale in (2.0, 4.0, 6.0, 9.0, 14.0)
    ],
    "nasa": [{"scale": scale} for scale in (0.05, 0.1, 0.2, 0.3, 0.4)],
    "ong": [{"scale": scale} for scale in (0.1, 0.25, 0.5, 1.0, 2.0)],
    "negpip": [{"scale": scale} for scale in (0.25, 0.5, 1.0, 1.5, 2.0)],
    "vsf auto": [
        {"scale": "auto"},
        {"scale": "auto", "orthogonal": True},
        {"scale": "auto", "orthogonal": True, "special_tokens": "strip"},
    ],
    "cfg": [{"scale": scale} for scale in (1.5, 2.0, 3.0, 5.0, 8.0)],
}
"""Knobs to try, by the label of a column, whose first word without "+" is the method."""
WHERE: Mapping[str, Mapping[str, Any]] = {"vsf in context": {"schedule": WINDOW, "in_context": True}}
"""Further settings of some columns."""


def settings() -> dict[str, list[Setting]]:
    """List the settings to try for each column."""
    by_label = {}
    for label, strengths in STRENGTHS.items():
        by_label[label] = [_setting(label, knobs) for knobs in strengths]
    return by_label


def best(tried: Sequence[Setting], rows: Mapping[Setting, Sequence[Row]]) -> Setting:
    """Choose the setting that removes most among those that keep object and quality, or else the weakest."""
    plain = scored(rows[NONE])

    def keeps(setting: Setting) -> bool:
        score = scored(rows[setting])
        losses = {"positive": POSITIVE_LOSS, "quality": QUALITY_LOSS}
        return all((score[name] or 0.0) >= (plain[name] or 0.0) - loss for name, loss in losses.items())

    candidates = list(filter(keeps, tried))
    return max(candidates, key=lambda setting: scored(rows[setting])["negative"] or 0.0) if candidates else tried[0]


def main(
    prompts: Annotated[int, typer.Option(min=1, help="Dev prompts for each strength.")] = 64,
    seed: Annotated[int, typer.Option(help="Decides prompts and noise.")] = 0,
    out: Annotated[Path, typer.Option(help="The JSON file to write.")] = RESULTS,
    picture: Annotated[Path, typer.Option(help="The sheet to write.")] = PICTURE,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one for each core if not given.")] = None,
) -> None:
    """Find each method's best strength on dev prompts and show it on test prompts."""
    tried = settings()
    model = folder()
    all_settings = [NONE, *chain.from_iterable(tried.values())]
    # Keeps finished drawings until the end, so that a stopped run can go on.
    unfinished = out.with_suffix(".unfinished.jsonl")
    weights = hash_folder(model)
    crew = Crew(unfinished, f"{vsf.__version__} {weights}", workers or torch.get_num_threads())
    with Progress(transient=True) as progress, crew:
        task = progress.add_task("dev prompts", total=prompts * len(all_settings))
        shots = mixed_shots(prompts, [seed], "dev")
        rows = sample(crew, model, all_settings, shots, lambda done: progress.advance(task, done))
    chosen = {"none": NONE}
    for label, settings_of_column in tried.items():
        chosen[label] = best(settings_of_column, rows)
    table = []
    for setting in all_settings:
        line = {"setting": setting.name, **scored(rows[setting])}
        table.append(line)
        typer.echo("  ".join(map(str, line.values())))
    names = [{"column": label, "setting": setting.name} for label, setting in chosen.items()]
    write(out, [], about=[{"weights": weights, "prompts": prompts}], chosen=names, settings=table)
    _sheet(model, chosen, seed).save(picture)
    unfinished.unlink()


def _sheet(model: Path, chosen: Mapping[str, Setting], seed: int) -> Image:
    """Draw a sheet with a column per method and a row per prompt, with the judge's words under each picture."""
    shots = mixed_shots(SHOWN, [seed], "test")
    columns = []
    images = []
    for label, setting in chosen.items():
        columns.append(setting.name if setting is not NONE else label)
        images += draw(pipeline(model), setting, shots)
    rows = [f"without {shot.pair.negative}: {shot.pair.prompt}" for shot in shots]
    verdicts = []
    for index, reading in enumerate(look(images)):
        verdicts.append(_verdict(shots[index % SHOWN], reading))  # images lie column by column
    title = ["Each method at its best strength on dev prompts; below, what the judge says"]
    return contact_sheet(title, columns, rows, images, verdicts)


def _verdict(shot: Shot, reading: Reading) -> str:
    """Say in a few words whether the part is gone and the object still there."""
    pair = shot.pair
    verdict = answer(reading, Question(pair.object, pair.negative))
    if verdict.positive is None:
        return verdict.reason
    state = {True: "there", False: "gone"}
    return f"{pair.negative} {state[not verdict.negative]}, {pair.object} {state[verdict.positive]}"


def _setting(label: str, knobs: Mapping[str, Any]) -> Setting:
    method = vsf.method(_method(label), **knobs)
    return Setting(f"{label} {_distinction(knobs)}", method, **WHERE.get(label, {}))


def _distinction(knobs: Mapping[str, Any]) -> str:
    """Name the knobs that distinguish the settings of a column."""
    scale = knobs["scale"]
    if isinstance(scale, float):
        return f"scale={scale:g}"
    return " ".join(name for name in ("orthogonal", "special_tokens") if name in knobs) or "plain"


def _method(label: str) -> str:
    return label.split()[0].rstrip("+")


if __name__ == "__main__":
    run(app_of(main))
