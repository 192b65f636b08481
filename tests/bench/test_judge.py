"""Judging: every image once, each verdict kept at once, unscored ones counted."""

import errno
import os
from dataclasses import dataclass, field

import pytest

from support import fake_endpoint as fake
from support.bench_fixtures import NONE, PAIRS, VSF, Coloured
from vsf.bench.run import draw as run
from vsf.bench.run import judge as stage
from vsf.bench.run.batch import Conditions
from vsf.bench.run.draw import Task
from vsf.bench.run.rows import rows, verdicts
from vsf.bench.run.scored import scored
from vsf.engines import InProcess
from vsf.errors import RequestError
from vsf.judges.base import Verdict
from vsf.judges.openai import OpenAIJudge

GOOD = Verdict(True, True, 0.9, "a car", tokens=10, cost=0.25)


@dataclass
class Scripted:
    """Answers as it is told, and remembers what it was asked."""

    answers: list = field(default_factory=list)
    name: str = "scripted"
    version: str = "1"
    batch: int = 2
    waits: bool = False

    def __post_init__(self):
        self.asked = []

    def __call__(self, cases):
        self.asked += cases
        return [self.answers.pop(0) if self.answers else GOOD for _ in cases]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "DrawJob", Coloured)
    monkeypatch.setattr(run, "identify", lambda model: (model, "revision"))
    run.run(tmp_path, Task([NONE, VSF], PAIRS, [0], Conditions(batch=5)), InProcess(), lambda done, total: None)
    return tmp_path


def ask(folder, judge, told=None):
    return stage.judge(folder, judge, InProcess(), lambda done, total: (told or []).append((done, total)))


def test_every_image_is_asked_about_with_the_words_of_its_pair(folder):
    judge = Scripted()
    tally = ask(folder, judge)
    assert len(judge.asked) == 10
    for row, case in zip(rows(folder), judge.asked, strict=True):
        (pair,) = [pair for pair in PAIRS if pair.id == row.pair]
        assert (case.prompt, case.negative, case.about) == (pair.prompt, pair.negative, {"object": "car"})
        assert (case.question_positive, case.question_negative) == (pair.question_positive, pair.question_negative)
        assert case.png() == (folder / row.image).read_bytes()
    assert (tally.images, tally.unscored, tally.tokens, tally.cost) == (10, {}, 100, 2.5)
    assert {score.positive for score in scored(folder)} == {True}


def test_a_second_round_asks_nothing_and_another_version_asks_all(folder):
    ask(folder, Scripted())
    again, newer = Scripted(), Scripted(version="2")
    assert ask(folder, again).images == 10
    ask(folder, newer)
    assert (len(again.asked), len(newer.asked)) == (0, 10)


def test_what_was_answered_before_a_stop_is_kept(folder):
    class Breaking(Scripted):
        def __call__(self, cases):
            if len(self.asked) == 4:
                raise KeyboardInterrupt
            return super().__call__(cases)

    with pytest.raises(KeyboardInterrupt):
        ask(folder, Breaking())
    assert len(verdicts(folder)) == 4
    rest = Scripted()
    ask(folder, rest)
    assert len(rest.asked) == 6


def test_a_full_disk_loses_no_verdict_that_was_finished(folder, monkeypatch):
    whole, kept = stage.jsonl.append, []

    def append(file, records):
        if len(kept) == 3:
            raise RequestError(os.strerror(errno.ENOSPC))
        kept.append(records)
        whole(file, records)

    with monkeypatch.context() as patched:
        patched.setattr(stage.jsonl, "append", append)
        with pytest.raises(RequestError, match="No space left"):
            ask(folder, Scripted())
    assert len(verdicts(folder)) == 6
    rest = Scripted()
    assert ask(folder, rest).images == 10
    assert len(rest.asked) == 4


def test_an_answer_that_was_bought_before_a_stop_keeps_its_cost(folder, monkeypatch):
    def stopped(file, records):
        raise KeyboardInterrupt

    with fake.serving() as endpoint:
        judge = OpenAIJudge("m", endpoint.url, prices=(1.0, 1.0), cache=folder / "answers")
        with monkeypatch.context() as patched:
            patched.setattr(stage.jsonl, "append", stopped)
            with pytest.raises(KeyboardInterrupt):
                ask(folder, judge)
        assert ask(folder, judge).cost == pytest.approx(0.01)
        assert len(endpoint.calls) == 10


def test_unscored_images_are_counted_by_reason_and_only_the_unreached_are_asked_again(folder):
    refused = Verdict(None, None, None, "refused: no cars", tokens=3)
    unreached = Verdict(None, None, None, "no answer: timed out", final=False)
    tally = ask(folder, Scripted([refused, unreached, unreached]))
    assert (tally.images, tally.unscored) == (10, {"refused": 1, "no answer": 2})
    assert tally.tokens == 73
    assert [score.positive for score in scored(folder)].count(None) == 3
    again = Scripted()
    tally = ask(folder, again)
    assert len(again.asked) == 2
    assert (tally.images, tally.unscored) == (10, {"refused": 1})


def test_half_a_character_in_a_reason_does_not_end_the_stage(folder):
    ask(folder, Scripted([Verdict(True, True, 0.9, "a car \ud83d")]))
    assert verdicts(folder)[0].reason == "a car ?"


def test_equal_images_of_one_pair_are_asked_about_once(folder):
    drawn = rows(folder)
    twin = drawn[0].model_copy(update={"key": "x", "label": "twin"})
    stage.jsonl.append(folder / "rows.jsonl", [twin])
    judge = Scripted()
    ask(folder, judge)
    assert len(judge.asked) == 10
    assert len(scored(folder)) == 11
    assert all(score.positive for score in scored(folder))


def test_a_lost_image_is_named(folder):
    lost = folder / rows(folder)[0].image
    lost.unlink()

    class Opening(Scripted):
        def __call__(self, cases):
            return [GOOD for case in cases if case.image()]

    with pytest.raises(RequestError, match=lost.name):
        ask(folder, Opening())


def test_a_folder_without_rows_says_what_to_do(tmp_path):
    with pytest.raises(RequestError, match=r"no rows.*vsf bench run"):
        ask(tmp_path / "mistyped", Scripted())
    assert not (tmp_path / "mistyped").exists()


def test_the_worst_frame_of_a_clip_counts():
    frames = [
        Verdict(True, True, 0.9, "a", 10, 0.5),
        Verdict(True, False, 0.8, "b", 10, 0.5),
        Verdict(True, True, 0.2, "c", None, None),
    ]
    verdict = stage.worst(frames)
    assert (verdict.positive, verdict.negative, verdict.quality) == (True, False, 0.2)
    assert (verdict.tokens, verdict.cost) == (20, 1.0)
    assert verdict.reason == "frame 2 of 3: b"


def test_a_clip_with_a_frame_that_is_unscored_is_unscored():
    verdict = stage.worst([GOOD, Verdict(None, None, None, "no answer: x", final=False)])
    assert (verdict.positive, verdict.negative, verdict.quality) == (None, None, None)
    assert (verdict.reason, verdict.final, verdict.tokens) == ("no answer: x", False, 10)


def test_a_judge_that_gave_not_one_verdict_is_an_error_that_says_why(folder):
    dead = [Verdict(None, None, None, "no answer: connection refused", final=False)] * 10
    tally = ask(folder, Scripted(list(dead)))
    with pytest.raises(RequestError, match=r"not one of 10 images got a verdict; the first: no answer: connection ref"):
        tally.require_answer()
    ask(folder, Scripted([*dead[:9], GOOD])).require_answer()


def test_a_limit_asks_about_so_many_images_and_the_rest_comes_later(folder):
    first, second = Scripted(), Scripted()
    tally = stage.judge(folder, first, InProcess(), lambda done, total: None, 3)
    assert (tally.images, len(first.asked)) == (3, 3)
    assert ask(folder, second).images == 10
    assert len(second.asked) == 7
