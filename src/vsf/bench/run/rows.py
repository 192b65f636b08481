"""One row per image, one verdict per judged image, and the two joined."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from vsf.bench.run import jsonl as journal
from vsf.errors import RequestError

ROWS, VERDICTS, IMAGES = "rows.jsonl", "verdicts.jsonl", "images"


class Row(BaseModel):
    """One image and how it came about. `key` names setting, pair, seed and weights; no two rows share one.

    knobs: all of the method's, defaults included. within: what the negative was read in, see `plan.Setting`. revision:
    commit or hash of the weights. image: path below the folder of the run. image_hash: sha256 of that file. frames: how
    many it holds, 1 unless it is a clip. seconds: an image's share of its batch. peak_memory: bytes, of the device, or
    of the process where it computes on the CPU.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    key: str
    pair: str
    seed: int
    label: str
    method: str
    knobs: dict[str, bool | float | str]
    strength: float | None
    steps: int
    guidance_scale: float
    schedule: dict[str, float | str]
    within: str = ""
    model: str
    revision: str
    image: str
    image_hash: str
    frames: int
    size: tuple[int, int]
    seconds: float
    peak_memory: int | None
    host: str
    device: str
    versions: dict[str, str]


class Verdict(BaseModel):
    """What one judge says about one image in answer to one pair's questions; None is unscored, `reason` says why.

    tokens: read and written by a language model; cost: in US dollars; both None where there is nothing to count.
    `final` is False where the judge could not be reached, so that asking again is worth it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_hash: str
    pair: str
    judge: str
    judge_version: str
    positive: bool | None
    negative: bool | None
    quality: float | None
    reason: str
    tokens: int | None = None
    cost: float | None = None
    final: bool = True

    @property
    def usable(self) -> bool:
        """Whether it says anything about the image."""
        return self.positive is not None


@dataclass(frozen=True)
class Score:
    """A row with its verdict: what statistics and reports read. Positive, negative and quality are None if unscored."""

    pair: str
    seed: int
    label: str
    method: str
    strength: float | None
    positive: bool | None
    negative: bool | None
    quality: float | None
    reason: str
    image: str
    seconds: float


def rows(folder: Path) -> list[Row]:
    """Every finished row of a run. Raises RequestError for a damaged file."""
    return journal.read(folder / ROWS, Row)


def verdicts(folder: Path) -> list[Verdict]:
    """Every verdict of a run, of all judges; a later one replaces an earlier one. Raises RequestError."""
    latest = {_subject(verdict): verdict for verdict in journal.read(folder / VERDICTS, Verdict)}
    return list(latest.values())


def scored(folder: Path, judge: str | None = None) -> list[Score]:
    """The rows of a run joined with the verdicts of one judge; see `judged`."""
    return [_score(row, verdict) for row, verdict in judged(folder, judge)]


def judged(folder: Path, judge: str | None = None) -> list[tuple[Row, Verdict | None]]:
    """Every row of a run and what one judge says about its image; None where it was not judged yet.

    `judge` is its name, which may be left out where one judge alone gave verdicts; its newest version counts.

    Raises:
        RequestError: there are no rows, several judges to choose from, or none of that name.
    """
    drawn = rows(folder)
    if not drawn:
        raise RequestError(f'there are no rows in "{folder}": run "vsf bench run --out {folder}" first.')
    name = counted_judge(folder, judge)
    chosen = [verdict for verdict in verdicts(folder) if verdict.judge == name]
    version = chosen[-1].judge_version if chosen else ""
    by_image = {(v.image_hash, v.pair): v for v in chosen if v.judge_version == version}
    return [(row, by_image.get((row.image_hash, row.pair))) for row in drawn]


def counted_judge(folder: Path, judge: str | None = None) -> str | None:
    """Choose the judge whose verdicts count: the one that is named, or else the only one that ever gave a verdict.

    A judge without one usable verdict, such as one whose endpoint was dead, does not stand in the way of another. None
    where nobody judged yet.

    Raises:
        RequestError: there are several to choose from, or none of that name.
    """
    given = verdicts(folder)
    asked = list(dict.fromkeys(verdict.judge for verdict in given))
    usable = list(dict.fromkeys(verdict.judge for verdict in given if verdict.usable))
    candidates = usable or asked
    if judge is not None:
        if judge not in asked:
            raise RequestError(f'"{folder}" was not judged by {judge}, but by {", ".join(asked) or "nobody yet"}.')
        return judge
    if len(candidates) > 1:
        names = ", ".join(candidates)
        raise RequestError(f'"{folder}" was judged by {names}: say with --judge which one counts.')
    return candidates[0] if candidates else None


def _subject(verdict: Verdict) -> tuple[Any, ...]:
    return verdict.image_hash, verdict.pair, verdict.judge, verdict.judge_version


def _score(row: Row, verdict: Verdict | None) -> Score:
    return Score(
        pair=row.pair,
        seed=row.seed,
        label=row.label,
        method=row.method,
        strength=row.strength,
        positive=verdict.positive if verdict else None,
        negative=verdict.negative if verdict else None,
        quality=verdict.quality if verdict else None,
        reason=verdict.reason if verdict else "not judged yet",
        image=row.image,
        seconds=row.seconds,
    )
