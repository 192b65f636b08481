"""Does the judge see what a person sees? ``python benchmarks/tiny/agreement.py sheet``, then ``... tally``.

`sheet` draws pictures of test prompts, half of them guided, in a random order, and sets them on numbered sheets beside
a table to fill in. It does not ask the judge, so nobody can know a verdict before the table is full: `tally` asks it.
"""

from __future__ import annotations

import csv
import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from command import app_of, progress_of, run
from contact_sheet import Cell, contact_sheet
from figure import Figure
from sampling import BATCH, Setting, Shot, draw, mixed_shots, pipeline
from settings_search import NONE, Form
from vsf.bench.run import jsonl
from vsf.errors import RequestError
from vsf.generation.models import hash_folder
from vsf.judges.base import Question, Verdict
from vsf.judges.scenes.judge import judge
from vsf.tiny import folder

RESULTS = Path("benchmarks/results/agreement.json")
PICTURES, PER_SHEET = 100, 20
SETTINGS = (NONE, Form().at(2.0), NONE, Form().at(4.0))
LABELS = ("number", "prompt", "object", "part", "object there", "part there")
_BOUND = 0.95


@dataclass(frozen=True)
class Picture:
    """One numbered picture: what was asked for, what was asked away, how it was drawn, and the hash of its file."""

    number: int
    prompt: str
    object: str
    part: str
    setting: str
    noise: int
    sha256: str


@dataclass(frozen=True)
class Label:
    """What a person saw: whether the object and the part are there, None where they cannot tell."""

    object: bool | None
    part: bool | None


def sheet(
    out: Annotated[Path, typer.Option(help="The folder to fill.")],
    model: Annotated[Path | None, typer.Option(help="A pipeline folder instead of the embedded model.")] = None,
    pictures: Annotated[int, typer.Option(min=1, help="How many.")] = PICTURES,
    seed: Annotated[int, typer.Option(help="Decides prompts, noise and order.")] = 0,
) -> None:
    """Draw pictures, set them on numbered sheets, and write the table to fill in."""
    labels = out / "labels.csv"
    if labels.exists():
        raise RequestError(f'"{labels}" is there already, perhaps filled in; give another --out, or remove the folder.')
    weights = hash_folder(model or folder())
    drawn = _drawn(model or folder(), pictures, seed)
    (out / "pictures").mkdir(parents=True, exist_ok=True)
    told = []
    for number, (setting, shot, image) in enumerate(drawn, 1):
        file = out / "pictures" / f"{number:03}.png"
        image.save(file)
        pair, digest = shot.pair, hashlib.sha256(file.read_bytes()).hexdigest()
        told.append(Picture(number, pair.prompt, pair.object, pair.negative, setting.name, shot.noise, digest))
    cells = [_cell(one, image) for one, (_, _, image) in zip(told, drawn, strict=True)]
    for first in range(0, len(cells), PER_SHEET):
        contact_sheet(cells[first : first + PER_SHEET]).save(out / f"sheet-{first // PER_SHEET + 1}.jpg", quality=90)
    document = {"weights": weights, "pictures": [asdict(picture) for picture in told]}
    jsonl.write(out / "pictures.json", json.dumps(document, indent=1).encode() + b"\n")
    rows = [(one.number, one.prompt, one.object, one.part, "", "") for one in told]
    with labels.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([LABELS, *rows])
    typer.echo(f'{len(told)} pictures are on the sheets in {out}. Write yes, no or ? into each row of "{labels}".')


def tally(
    labels: Annotated[Path, typer.Option(help="The table that `sheet` wrote, filled in.")],
    out: Annotated[Path, typer.Option(help="The JSON file to write.")] = RESULTS,
) -> None:
    """Compare a filled-in table with what the judge says of its pictures; exit with 1 when they agree too little."""
    document, pictures = _pictures(labels.parent)
    seen = _labels(labels, pictures)
    verdicts = []
    with progress_of("judging", len(pictures)) as advance:
        for one in pictures:
            verdicts.append(_verdict(labels.parent, one))
            advance()
    rows = [_row(*one) for one in zip(pictures, seen, verdicts, strict=True)]
    counts = {what: _count([row[f"{what} agrees"] for row in rows]) for what in ("object", "part")}
    counts["both"] = _count([row[f"{what} agrees"] for row in rows for what in ("object", "part")])
    result = {"weights": document["weights"], "agreement": counts, "rows": rows}
    jsonl.write(out, json.dumps(result, indent=1, ensure_ascii=False).encode() + b"\n")
    for what, count in counts.items():
        interval = f"{count['low']:.3f}–{count['high']:.3f}"
        typer.echo(f"{what:<8} {count['agree']} of {count['of']}: {count['share']:.3f} ({interval})")
    for row in rows:
        if False in (row["object agrees"], row["part agrees"]):
            typer.echo(f"  {row['number']:>3} {row['prompt']} / {row['part']}: the judge saw {row['judge saw']}")
    raise typer.Exit(0 if counts["both"]["share"] >= _BOUND else 1)


def figure(weights: str) -> Figure:
    """The agreement that was last tallied, if it was about these weights."""
    name = "judge agrees with a careful look"
    if not RESULTS.exists():
        return Figure(name, None, low=_BOUND, note="nobody looked yet: agreement")
    result = json.loads(RESULTS.read_text(encoding="utf-8"))
    if result["weights"] != weights:
        return Figure(name, None, low=_BOUND, note="the pictures looked at are of other weights")
    both = result["agreement"]["both"]
    note = f"{both['agree']} of {both['of']}, 95 % interval {both['low']:.3f}–{both['high']:.3f}"
    return Figure(name, both["share"], low=_BOUND, note=note)


def _drawn(model: Path, count: int, seed: int) -> list[tuple[Setting, Shot, Any]]:
    """Pictures of `count` test prompts in the order of the prompts, each with one of the settings at random."""
    shots = mixed_shots(count, [seed], "test")
    settings = [SETTINGS[index % len(SETTINGS)] for index in range(count)]
    random.Random(f"agreement {seed}").shuffle(settings)
    images: dict[int, Any] = {}
    alike = {one: [index for index, other in enumerate(settings) if other == one] for one in settings}
    batches = [(one, mine[at : at + BATCH]) for one, mine in alike.items() for at in range(0, len(mine), BATCH)]
    with progress_of("drawing", len(batches)) as advance:
        for setting, batch in batches:
            drawn = draw(pipeline(model), setting, [shots[index] for index in batch])
            images |= dict(zip(batch, drawn, strict=True))
            advance()
    return [(setting, shot, images[index]) for index, (setting, shot) in enumerate(zip(settings, shots, strict=True))]


def _cell(picture: Picture, image: Any) -> Cell:
    return Cell(image, f"{picture.number}. {picture.prompt}", f"{picture.object}?  {picture.part}?")


def _pictures(out: Path) -> tuple[dict[str, Any], list[Picture]]:
    try:
        document = json.loads((out / "pictures.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise RequestError(
            f'"{out}" holds no sheets: "python benchmarks/tiny/agreement.py sheet" comes first.'
        ) from error
    return document, [Picture(**fields) for fields in document["pictures"]]


def _labels(file: Path, pictures: Sequence[Picture]) -> list[Label]:
    """What the table says of each picture."""
    with file.open(newline="", encoding="utf-8") as lines:
        rows = {row["number"]: row for row in csv.DictReader(lines)}
    missing = [str(one.number) for one in pictures if str(one.number) not in rows]
    if missing:
        raise RequestError(f'"{file}" has no row for {", ".join(missing)}.')
    return [Label(*(_answer(rows[str(one.number)], column) for column in LABELS[-2:])) for one in pictures]


def _answer(row: Mapping[str, str], column: str) -> bool | None:
    answers = {"yes": True, "no": False, "?": None}
    written = (row[column] or "").strip().lower()
    if written not in answers:
        raise RequestError(f'picture {row["number"]}, "{column}": expected yes, no or ?, got "{written}".')
    return answers[written]


def _verdict(out: Path, picture: Picture) -> Verdict:
    """What the judge says of a picture; refuses one that is not the picture on the sheet."""
    from PIL import Image

    file = out / "pictures" / f"{picture.number:03}.png"
    if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != picture.sha256:
        raise RequestError(f'"{file}" is not the picture that is on the sheet; draw the sheets anew.')
    with Image.open(file) as image:
        return judge(image, Question(picture.object, picture.part))


def _row(picture: Picture, label: Label, verdict: Verdict) -> dict[str, Any]:
    """Label and verdict side by side.

    They agree on the part when one says it is there and the other does not say it is gone. Where the person cannot
    tell there is nothing to agree with; where only the judge cannot, it is wrong.
    """
    part = None if verdict.negative is None else not verdict.negative
    return {
        **asdict(picture),
        "object seen": label.object,
        "part seen": label.part,
        "object judged": verdict.positive,
        "part judged": part,
        "object agrees": None if label.object is None else label.object == verdict.positive,
        "part agrees": None if label.part is None else label.part == part,
        "judge saw": verdict.reason,
    }


def _count(agrees: Sequence[bool | None]) -> dict[str, float]:
    """How many agree of those that can be compared, and the Wilson interval of the share at 95 %."""
    from scipy.stats import binomtest

    known = [value for value in agrees if value is not None]
    if not known:
        raise RequestError("there is nothing to compare: every answer is ?.")
    interval = binomtest(sum(known), len(known)).proportion_ci(method="wilson")
    share, low, high = (round(float(value), 4) for value in (sum(known) / len(known), interval.low, interval.high))
    return {"agree": sum(known), "of": len(known), "share": share, "low": low, "high": high}


if __name__ == "__main__":
    run(app_of(sheet, tally, text=__doc__))
