"""Compare the judge with a person: ``python benchmarks/tiny/agreement.py sheet``, then ``... tally``.

`sheet` draws pictures of test prompts, half of them guided, in random order, and puts them on numbered sheets beside a
table to fill in. It does not ask the judge, so nobody can know a verdict before the table is full: `tally` asks it.
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
PICTURES = 100
PER_SHEET = 20
SETTINGS = (NONE, Form().at(2.0), NONE, Form().at(4.0))
LABELS = ("number", "prompt", "object", "part", "object there", "part there")
_BOUND = 0.95


@dataclass(frozen=True)
class Picture:
    """One numbered picture: its prompt and negative prompt, how it was drawn, and the hash of its file."""

    number: int
    prompt: str
    object: str
    part: str
    setting: str
    noise: int
    sha256: str


@dataclass(frozen=True)
class Label:
    """A person's answers: whether the object and the part are visible, None if they cannot tell."""

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
    listed = []
    cells = []
    for number, (setting, shot, image) in enumerate(drawn, 1):
        file = out / "pictures" / f"{number:03}.png"
        image.save(file)
        pair = shot.pair
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        picture = Picture(number, pair.prompt, pair.object, pair.negative, setting.name, shot.noise, digest)
        listed.append(picture)
        cells.append(_cell(picture, image))
    # JPEG is for looking only; `tally` judges the PNG files.
    for first in range(0, len(cells), PER_SHEET):
        contact_sheet(cells[first : first + PER_SHEET]).save(out / f"sheet-{first // PER_SHEET + 1}.jpg", quality=90)
    document = {"weights": weights, "pictures": [asdict(picture) for picture in listed]}
    jsonl.write(out / "pictures.json", json.dumps(document, indent=1).encode() + b"\n")
    rows = []
    for picture in listed:
        rows.append((picture.number, picture.prompt, picture.object, picture.part, "", ""))
    with labels.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([LABELS, *rows])
    typer.echo(f'{len(listed)} pictures are on the sheets in {out}. Write yes, no or ? into each row of "{labels}".')


def tally(
    labels: Annotated[Path, typer.Option(help="The table that `sheet` wrote, filled in.")],
    out: Annotated[Path, typer.Option(help="The JSON file to write.")] = RESULTS,
) -> None:
    """Compare a filled-in table with the judge's verdicts on its pictures; exit with 1 when they agree too little."""
    document, pictures = _pictures(labels.parent)
    answers = _labels(labels, pictures)
    rows = []
    object_agrees = []
    part_agrees = []
    with progress_of("judging", len(pictures)) as advance:
        for picture, label in zip(pictures, answers, strict=True):
            row = _row(picture, label, _verdict(labels.parent, picture))
            rows.append(row)
            object_agrees.append(row["object agrees"])
            part_agrees.append(row["part agrees"])
            advance()
    counts = {
        "object": _count(object_agrees),
        "part": _count(part_agrees),
        "both": _count(object_agrees + part_agrees),
    }
    result = {"weights": document["weights"], "agreement": counts, "rows": rows}
    jsonl.write(out, json.dumps(result, indent=1, ensure_ascii=False).encode() + b"\n")
    for subject, count in counts.items():
        interval = f"{count['low']:.3f}–{count['high']:.3f}"
        typer.echo(f"{subject:<8} {count['agree']} of {count['of']}: {count['share']:.3f} ({interval})")
    for row in rows:
        if False in (row["object agrees"], row["part agrees"]):
            typer.echo(f"  {row['number']:>3} {row['prompt']} / {row['part']}: the judge saw {row['judge saw']}")
    raise typer.Exit(0 if counts["both"]["share"] >= _BOUND else 1)


def figure(weights: str) -> Figure:
    """Return the agreement that was last tallied, if it was about these weights."""
    name = "judge agrees with a careful look"
    if not RESULTS.exists():
        return Figure(name, None, low=_BOUND, note="nobody looked yet: agreement")
    result = json.loads(RESULTS.read_text(encoding="utf-8"))
    if result["weights"] != weights:
        return Figure(name, None, low=_BOUND, note="the pictures looked at are of other weights")
    count = result["agreement"]["both"]
    note = f"{count['agree']} of {count['of']}, 95 % interval {count['low']:.3f}–{count['high']:.3f}"
    return Figure(name, count["share"], low=_BOUND, note=note)


def _drawn(model: Path, count: int, seed: int) -> list[tuple[Setting, Shot, Any]]:
    """Draw `count` test prompts, each with one of the settings at random; in the order of the prompts."""
    shots = mixed_shots(count, [seed], "test")
    settings = [SETTINGS[index % len(SETTINGS)] for index in range(count)]
    random.Random(f"agreement {seed}").shuffle(settings)
    # A batch is drawn with one setting, so the shuffled pictures are sorted by theirs, and put in order again below.
    images: dict[int, Any] = {}
    indices_of_setting: dict[Setting, list[int]] = {}
    for index, setting in enumerate(settings):
        indices_of_setting.setdefault(setting, []).append(index)
    batches = []
    for setting, indices in indices_of_setting.items():
        for start in range(0, len(indices), BATCH):
            batches.append((setting, indices[start : start + BATCH]))
    with progress_of("drawing", len(batches)) as advance:
        for setting, batch in batches:
            drawn = draw(pipeline(model), setting, [shots[index] for index in batch])
            images |= dict(zip(batch, drawn, strict=True))
            advance()
    return [(settings[index], shot, images[index]) for index, shot in enumerate(shots)]


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
    """Read the answers about each picture from the table. Raises RequestError for a missing or malformed row."""
    with file.open(newline="", encoding="utf-8") as lines:
        rows = {row["number"]: row for row in csv.DictReader(lines)}
    missing = []
    for picture in pictures:
        if str(picture.number) not in rows:
            missing.append(str(picture.number))
    if missing:
        raise RequestError(f'"{file}" has no row for {", ".join(missing)}.')
    object_column, part_column = LABELS[-2:]
    labels = []
    for picture in pictures:
        row = rows[str(picture.number)]
        labels.append(Label(_answer(row, object_column), _answer(row, part_column)))
    return labels


def _answer(row: Mapping[str, str], column: str) -> bool | None:
    answers = {"yes": True, "no": False, "?": None}
    written = (row[column] or "").strip().lower()
    if written not in answers:
        raise RequestError(f'picture {row["number"]}, "{column}": expected yes, no or ?, got "{written}".')
    return answers[written]


def _verdict(out: Path, picture: Picture) -> Verdict:
    """Ask the judge about a picture. Raises RequestError if it is not the one on the sheet any more."""
    from PIL import Image

    file = out / "pictures" / f"{picture.number:03}.png"
    if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != picture.sha256:
        raise RequestError(f'"{file}" is not the picture that is on the sheet; draw the sheets anew.')
    with Image.open(file) as image:
        return judge(image, Question(picture.object, picture.part))


def _row(picture: Picture, label: Label, verdict: Verdict) -> dict[str, Any]:
    """Put label and verdict side by side.

    They agree on the part if one says it is there and the other does not say it is gone. If the person cannot tell,
    there is nothing to agree with; if only the judge cannot, it is wrong.
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
    """Count agreement among the answers that can be compared, with the 95 % Wilson interval of its share."""
    from scipy.stats import binomtest

    compared = [value for value in agrees if value is not None]
    if not compared:
        raise RequestError("there is nothing to compare: every answer is ?.")
    interval = binomtest(sum(compared), len(compared)).proportion_ci(method="wilson")
    return {
        "agree": sum(compared),
        "of": len(compared),
        "share": round(sum(compared) / len(compared), 4),
        "low": round(float(interval.low), 4),
        "high": round(float(interval.high), 4),
    }


if __name__ == "__main__":
    run(app_of(sheet, tally, text=__doc__))
