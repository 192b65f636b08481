"""Ask a judge about every image of a folder, storing each verdict as soon as it arrives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from vsf.bench.run import jsonl
from vsf.bench.run.draw import ProgressCallback
from vsf.bench.run.manifest import in_use, pairs
from vsf.bench.run.rows import VERDICTS, Row, rows, spent, verdicts
from vsf.errors import RequestError
from vsf.judges.base import Case, Judge, Verdict

if TYPE_CHECKING:
    from vsf.bench.suites.load import Pair
    from vsf.engines.base import Engine


@dataclass(frozen=True)
class Tally:
    """The result of judging a folder.

    Attributes:
        images: Images with a verdict.
        unscored: How many of them have no score, by the kind of reason.
        tokens: Sum over all verdicts; None if none counts them.
        cost: US dollars; None if no verdict counts them.
        trouble: The full reason why the first unscored image is; empty if all are scored.
    """

    images: int
    unscored: Counter[str]
    tokens: int | None
    cost: float | None
    trouble: str = ""

    def require_answer(self) -> None:
        """Raise RequestError if there are images and not one of them is scored."""
        if self.images and self.unscored.total() == self.images:
            raise RequestError(
                f"not one of {self.images} images got a verdict; the first: {self.trouble} "
                "Put that right and give the same command again, or ask another --judge."
            )


@dataclass(frozen=True)
class JudgeJob:
    """Asks a judge about some images, each with a case per frame of its file."""

    judge: Judge

    def __call__(self, images: Sequence[tuple[Row, tuple[Case, ...]]]) -> list[Verdict]:
        """Ask about every frame; the worst frame counts for its image. Raises RequestError, also for a lost file."""
        cases: list[Case] = []
        for _, frames in images:
            cases += frames
        try:
            answers = iter(self.judge(cases))
        except OSError as error:
            raise RequestError(f"cannot read an image of the run: {error}. Put it back, or draw it again.") from error
        image_verdicts = []
        for row, frames in images:
            frame_verdicts = list(islice(answers, len(frames)))
            image_verdicts.append(_addressed(worst(frame_verdicts), row, self.judge))
        return image_verdicts


def judge(folder: Path, judge: Judge, engine: Engine, progress: ProgressCallback, limit: int | None = None) -> Tally:
    """Ask about the images on which this version of a judge has given no final verdict.

    Images that are equal to the last bit, and belong to the same pair, are asked about once.

    Args:
        folder: Of the run.
        judge: The judge to ask.
        engine: Runs the judge.
        progress: Called after every few images.
        limit: Number of images after which to stop; a later call continues. All images if None.

    Raises:
        RequestError: There are no rows, an image is lost, the disk is full, or the judge cannot work at all.
    """
    _distinct_images(folder)  # before the lock, which would create the folder
    with in_use(folder):
        images = _distinct_images(folder)
        open_rows = outstanding(folder, judge)
        done = len(images) - len(open_rows)
        pair_by_id = {pair.id: pair for pair in pairs(folder)}
        todo = []
        for row in open_rows[:limit]:
            todo.append((row, _cases(folder, row, pair_by_id[row.pair])))
        goal = done + len(todo)
        progress(done, goal)
        jobs = []
        for start in range(0, len(todo), judge.batch):
            jobs.append(todo[start : start + judge.batch])
        for new_verdicts in engine.map(JudgeJob(judge), jobs):
            jsonl.append(folder / VERDICTS, new_verdicts)
            done += len(new_verdicts)
            progress(done, goal)
        return tally(_by(judge, verdicts(folder)))


def outstanding(folder: Path, judge: Judge) -> list[Row]:
    """List the images on which a judge has no final verdict. Raises RequestError if there are no rows."""
    final = set()
    for verdict in _by(judge, verdicts(folder)):
        if verdict.final:
            final.add((verdict.image_hash, verdict.pair))
    return [row for subject, row in _distinct_images(folder).items() if subject not in final]


def worst(answers: Sequence[Verdict]) -> Verdict:
    """Combine the verdicts on a clip's frames.

    An answer is yes only if it is yes for every frame, and the poorest frame is the clip's quality. A clip with an
    unscored frame is unscored.
    """
    if len(answers) == 1:
        return answers[0]
    unscored = [answer for answer in answers if not answer.is_scored]
    if unscored:
        combined = Verdict.unscored(unscored[0].reason, final=all(answer.final for answer in answers))
        for answer in unscored:
            if not answer.is_readable:
                combined = answer  # it spoils the clip, whatever the judge says about other frames
    else:
        poorest = min(answers, key=lambda answer: (answer.positive, answer.negative, answer.quality))
        combined = Verdict(
            positive=all(answer.positive for answer in answers),
            negative=all(answer.negative for answer in answers),
            quality=min(answer.quality for answer in answers if answer.quality is not None),
            reason=f"frame {answers.index(poorest) + 1} of {len(answers)}: {poorest.reason}",
            checks=_in_every_frame([answer.checks for answer in answers]),
        )
    tokens, cost = spent(answers)
    return replace(combined, tokens=tokens, cost=cost)


def _in_every_frame(checks: Sequence[Mapping[str, bool] | None]) -> dict[str, bool] | None:
    """Combine the checks of a clip's frames: one passes if it passes in every frame; None if a frame has none."""
    passed: dict[str, bool] = {}
    for of_frame in checks:
        if of_frame is None:
            return None
        for name, is_passed in of_frame.items():
            passed[name] = passed.get(name, True) and is_passed
    return passed


def tally(judged: Sequence[Verdict]) -> Tally:
    """Count the verdicts of one judge."""
    kinds: Counter[str] = Counter()
    trouble = ""
    for verdict in judged:
        if not verdict.is_scored:
            kinds[verdict.reason.partition(":")[0]] += 1  # judges write "kind: details"
            trouble = trouble or verdict.reason.rstrip(".") + "."
    tokens, cost = spent(judged)
    return Tally(len(judged), kinds, tokens, cost, trouble)


def _distinct_images(folder: Path) -> dict[tuple[str, str], Row]:
    """Return one row for each image and pair of a folder. Raises RequestError if there are none."""
    all_rows = rows(folder)
    if not all_rows:
        raise RequestError(f'there are no rows in "{folder}": run "vsf bench run --out {folder}" first.')
    return {(row.image_hash, row.pair): row for row in all_rows}


def _by(judge: Judge, verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Keep the verdicts of one judge in its present version."""
    identity = (judge.name, judge.version)
    return [verdict for verdict in verdicts if (verdict.judge, verdict.judge_version) == identity]


def _cases(folder: Path, row: Row, pair: Pair) -> tuple[Case, ...]:
    """Make the case of each frame of an image."""
    first = Case(
        file=folder / row.image,
        prompt=pair.prompt,
        negative=pair.negative,
        question_positive=pair.question_positive,
        question_negative=pair.question_negative,
        about=dict(pair.about),
    )
    return tuple(replace(first, frame=frame) for frame in range(row.frames))


def _addressed(answer: Verdict, row: Row, judge: Judge) -> Verdict:
    """Fill in the image and pair that a verdict is about, and the judge that gave it."""
    # A language model may write half a surrogate pair, which cannot be encoded as UTF-8.
    reason = answer.reason.encode(errors="replace").decode()
    return replace(
        answer,
        image_hash=row.image_hash,
        pair=row.pair,
        judge=judge.name,
        judge_version=judge.version,
        reason=reason,
    )
