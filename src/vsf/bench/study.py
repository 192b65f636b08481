"""A blind study with human judges: pictures without names go out, their answers come back as one more judge."""

from __future__ import annotations

import csv
import hashlib
import io
import random
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from vsf.bench.run import jsonl
from vsf.bench.run.manifest import in_use, pairs
from vsf.bench.run.rows import VERDICTS, Row, rows
from vsf.errors import RequestError
from vsf.judges.base import Verdict

SHEET = "answers.csv"
KEY = "key.json"
QUESTIONS = ("positive", "negative", "rest")
_HEAD = ("picture", "prompt", "question_positive", "question_negative", *QUESTIONS, "remark")
_ANSWERS = {"yes": True, "no": False}
_UNREADABLE = "unreadable"


class Key(BaseModel):
    """The secret of a study: which image each picture is.

    Attributes:
        images: Hash of the image and id of its pair, by the name of the picture.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: dict[str, tuple[str, str]]


def export(folder: Path, out: Path, count: int, *, labels: Sequence[str] = (), seed: int = 0) -> int:
    """Write pictures in random order under numbers, a sheet of questions about them, and the key beside the folder.

    Whoever answers gets the folder `out`, which tells neither settings nor verdicts. The key stays in the run's folder.
    Each setting has as many pictures as the others, give or take one.

    Args:
        folder: Of the run.
        out: A folder that does not exist yet.
        count: Number of pictures.
        labels: The settings that they are from; all if empty.
        seed: Decides which pictures, and their order.

    Returns:
        The number of pictures, fewer than `count` if the run has no more.

    Raises:
        RequestError: `out` exists, a setting has no rows, or a picture is lost.
    """
    if out.exists():
        raise RequestError(f'"{out}" exists already: a study needs a folder of its own.')
    chosen = _choose(rows(folder), count, labels, seed)
    pair_by_id = {pair.id: pair for pair in pairs(folder)}
    lines: list[Sequence[str]] = [_HEAD]
    images = {}
    for number, row in enumerate(chosen, 1):
        name = f"{number:04d}.png"
        try:
            content = (folder / row.image).read_bytes()
        except OSError as error:
            raise RequestError(f'cannot read the picture "{folder / row.image}": {error.strerror}.') from error
        jsonl.write(out / name, content)
        pair = pair_by_id[row.pair]
        lines.append((name, pair.prompt, pair.question_positive, pair.question_negative, *("",) * 4))
        images[name] = row.image_hash, row.pair
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(lines)
    jsonl.write(out / SHEET, stream.getvalue().encode())
    jsonl.write_json(key_file(folder, out), Key(images=images))
    return len(images)


def read_answers(folder: Path, study: Path, name: str) -> int:
    """Store the answers of a filled sheet as the verdicts of the judge human:NAME.

    The columns positive, negative and rest hold yes or no; "unreadable" in the first says that nothing can be
    recognised. A line without any answer is passed over.

    Args:
        folder: Of the run.
        study: The folder that `export` wrote.
        name: Of the person.

    Returns:
        The number of answers.

    Raises:
        RequestError: The study is not of this run, the sheet cannot be read, or an answer is none of those allowed.
    """
    try:
        key = Key.model_validate_json(key_file(folder, study).read_bytes())
        text = (study / SHEET).read_text(encoding="utf-8-sig")  # what spreadsheets write
    except (OSError, ValueError) as error:
        raise RequestError(f'cannot read the study "{study}" of "{folder}": {error}.') from error
    version = hashlib.sha256(key.model_dump_json().encode()).hexdigest()[:12]
    answers = []
    for line in csv.DictReader(io.StringIO(text)):
        verdict = _verdict(line)
        if verdict is None:
            continue
        if line["picture"] not in key.images:
            raise RequestError(f'the sheet has the picture "{line["picture"]}", which the study does not.')
        image_hash, pair = key.images[line["picture"]]
        origin = {"image_hash": image_hash, "pair": pair, "judge": f"human:{name}", "judge_version": version}
        answers.append(Verdict(**{**vars(verdict), **origin}))
    with in_use(folder):
        jsonl.append(folder / VERDICTS, answers)
    return len(answers)


def key_file(folder: Path, study: Path) -> Path:
    """Name the file with the key of a study."""
    return folder / "studies" / study.resolve().name / KEY


def _choose(all_rows: Sequence[Row], count: int, labels: Sequence[str], seed: int) -> list[Row]:
    """Choose rows of every setting in turn, in random order; equal images of one pair are shown once."""
    rng = random.Random(seed)
    by_label: dict[str, list[Row]] = {label: [] for label in labels}
    for row in all_rows:
        if not labels or row.label in by_label:
            by_label.setdefault(row.label, []).append(row)
    for label, of_label in by_label.items():
        if not of_label:
            raise RequestError(f'the run has no setting "{label}".')
        rng.shuffle(of_label)
    chosen: dict[tuple[str, str], Row] = {}
    while len(chosen) < count and any(by_label.values()):
        for of_label in by_label.values():
            if of_label and len(chosen) < count:
                row = of_label.pop()
                chosen.setdefault((row.image_hash, row.pair), row)
    shuffled = list(chosen.values())
    rng.shuffle(shuffled)
    return shuffled


def _verdict(line: dict[str, str]) -> Verdict | None:
    """Read a line of the sheet; None if it has no answer. Raises RequestError."""
    words = {question: (line.get(question) or "").strip().lower() for question in QUESTIONS}
    if not any(words.values()):
        return None
    remark = (line.get("remark") or "").strip()
    if words["positive"] == _UNREADABLE:
        return Verdict.unreadable(remark or _UNREADABLE)
    answers = {}
    for question, word in words.items():
        if word not in _ANSWERS:
            allowed = "yes, no or unreadable" if question == "positive" else "yes or no"
            raise RequestError(f'{line.get("picture")}: {question} is {allowed}, got "{word}".')
        answers[question] = _ANSWERS[word]
    return Verdict(answers["positive"], answers["negative"], None, remark, checks={"rest": answers["rest"]})
