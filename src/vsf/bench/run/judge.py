"""Ask a judge about every image of a folder, and keep each verdict as soon as it is there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from vsf.bench.run import jsonl as journal
from vsf.bench.run.draw import Engine, Tick
from vsf.bench.run.manifest import in_use, pairs
from vsf.bench.run.rows import VERDICTS, Row, Verdict, rows, verdicts
from vsf.errors import RequestError
from vsf.judges import base

if TYPE_CHECKING:
    from vsf.bench.suites.load import Pair


Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class Tally:
    """What a judge made of a folder: images asked about, those without a score by reason, tokens and US dollars.

    trouble: why the first of those without a score has none, in full; empty where all have one.
    """

    images: int
    unscored: Counter[str]
    tokens: int | None
    cost: float | None
    trouble: str = ""

    def require_answer(self) -> None:
        """Raise RequestError where images were asked about and not one got a verdict."""
        if self.images and self.unscored.total() == self.images:
            raise RequestError(
                f"not one of {self.images} images got a verdict; the first: {self.trouble} "
                "Put that right and give the same command again, or ask another --judge."
            )


@dataclass(frozen=True)
class Asking:
    """The work itself: verdicts on some images, each of them the frames of a file."""

    judge: base.Judge

    def __call__(self, images: Sequence[tuple[Row, tuple[base.Case, ...]]]) -> list[Verdict]:
        """Ask about every frame of every image; the worst frame counts. Raises RequestError, also for a lost file."""
        cases = [case for _, frames in images for case in frames]
        try:
            answers = iter(self.judge(cases))
        except OSError as error:
            raise RequestError(f"cannot read an image of the run: {error}. Put it back, or draw it again.") from error
        return [_verdict(row, self.judge, worst([next(answers) for _ in frames])) for row, frames in images]


def judge(folder: Path, judge: base.Judge, engine: Engine, tick: Tick, limit: int | None = None) -> Tally:
    """Ask about the images that this judge, in this version, has not given a final verdict on.

    Images that are equal to the last bit, and stand for the same pair, are asked about once. `limit` is the number of
    images after which to stop; a later call goes on.

    Raises:
        RequestError: there are no rows, an image is lost, the disk is full, or the judge cannot work at all.
    """
    _images(folder)
    with in_use(folder):
        images = _images(folder)
        left = outstanding(folder, judge)
        done = len(images) - len(left)
        about = {pair.id: pair for pair in pairs(folder)}
        todo = [(row, _cases(folder, row, about[row.pair])) for row in left[:limit]]
        goal = done + len(todo)
        tick(done, goal)
        jobs = [todo[start : start + judge.batch] for start in range(0, len(todo), judge.batch)]
        for found in engine.map(Asking(judge), jobs):
            journal.append(folder / VERDICTS, found)
            done += len(found)
            tick(done, goal)
        return tally(_of(verdicts(folder), judge))


def outstanding(folder: Path, judge: base.Judge) -> list[Row]:
    """List the images on which a judge has no final verdict. Raises RequestError where there are no rows."""
    given = {(v.image_hash, v.pair) for v in _of(verdicts(folder), judge) if v.final}
    return [row for subject, row in _images(folder).items() if subject not in given]


def _images(folder: Path) -> dict[tuple[str, str], Row]:
    """The rows of a folder, one for each image and pair. Raises RequestError where there are none."""
    drawn = rows(folder)
    if not drawn:
        raise RequestError(f'there are no rows in "{folder}": run "vsf bench run --out {folder}" first.')
    return {(row.image_hash, row.pair): row for row in drawn}


def worst(answers: Sequence[base.Verdict]) -> base.Verdict:
    """One verdict for a clip: what does not hold in every frame does not hold, and the poorest frame is its quality.

    A clip with a frame that is unscored is unscored.
    """
    if len(answers) == 1:
        return answers[0]
    unscored = [answer for answer in answers if answer.positive is None]
    if unscored:
        found = base.Verdict(None, None, None, unscored[0].reason, final=all(answer.final for answer in answers))
    else:
        poorest = min(answers, key=lambda answer: (answer.positive, answer.negative, answer.quality))
        found = base.Verdict(
            all(answer.positive for answer in answers),
            all(answer.negative for answer in answers),
            min(answer.quality for answer in answers if answer.quality is not None),
            f"frame {answers.index(poorest) + 1} of {len(answers)}: {poorest.reason}",
        )
    return replace(found, tokens=_total(a.tokens for a in answers), cost=_total(a.cost for a in answers))


def tally(given: Sequence[Verdict]) -> Tally:
    """Count the verdicts of one judge."""
    reasons = [verdict.reason for verdict in given if not verdict.usable]
    unscored = Counter(reason.partition(":")[0] for reason in reasons)
    trouble = reasons[0].rstrip(".") + "." if reasons else ""
    return Tally(len(given), unscored, _total(v.tokens for v in given), _total(v.cost for v in given), trouble)


def _total(numbers: Iterable[Number | None]) -> Number | None:
    """The sum of what was counted; None where nothing was."""
    counted = [number for number in numbers if number is not None]
    return sum(counted[1:], counted[0]) if counted else None


def _of(given: Sequence[Verdict], judge: base.Judge) -> list[Verdict]:
    return [verdict for verdict in given if (verdict.judge, verdict.judge_version) == (judge.name, judge.version)]


def _cases(folder: Path, row: Row, pair: Pair) -> tuple[base.Case, ...]:
    return tuple(
        base.Case(
            folder / row.image,
            pair.prompt,
            pair.negative,
            pair.question_positive,
            pair.question_negative,
            dict(pair.about),
            frame,
        )
        for frame in range(row.frames)
    )


def _verdict(row: Row, judge: base.Judge, answer: base.Verdict) -> Verdict:
    reason = answer.reason.encode(errors="replace").decode()  # a model may write half a character, which is no text
    subject = {"image_hash": row.image_hash, "pair": row.pair, "judge": judge.name, "judge_version": judge.version}
    return Verdict(**{**subject, **asdict(answer), "reason": reason})
