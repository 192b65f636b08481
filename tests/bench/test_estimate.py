"""What is left to do, and what it would take, told before anything is done."""

import pytest

from support.bench_fixtures import NONE, PAIRS, VSF, Coloured, SlowJudge
from vsf.bench.run import draw as run
from vsf.bench.run import estimate, judge
from vsf.bench.run.batch import Conditions
from vsf.bench.run.draw import Task
from vsf.bench.run.rows import ROWS
from vsf.engines import InProcess
from vsf.errors import RequestError
from vsf.judges.base import Verdict

TASK = Task([NONE, VSF], PAIRS, [0, 1], Conditions(batch=2))


@pytest.fixture(autouse=True)
def _without_a_model(monkeypatch):
    monkeypatch.setattr(run, "DrawJob", Coloured)
    monkeypatch.setattr(run, "identify", lambda model: (model, f"revision of {model}"))


def draw(folder, limit):
    run.run(folder, TASK, InProcess(), lambda done, total: None, limit)


class Paid(SlowJudge):
    """Takes 10 tokens and a quarter of a dollar for each image."""

    def __call__(self, cases):
        return [Verdict(True, True, 0.5, "", tokens=10, cost=0.25) for _ in cases]


def test_before_the_first_image_the_count_is_known_and_the_time_is_not(tmp_path):
    assert estimate.drawing(tmp_path / "new", TASK) == estimate.DrawingEstimate(20, 20, None)
    assert not (tmp_path / "new").exists()


def test_the_time_is_that_of_the_images_that_are_there_shared_out_to_workers(tmp_path):
    draw(tmp_path, 4)
    assert estimate.drawing(tmp_path, TASK) == estimate.DrawingEstimate(20, 16, 16 * 0.5)
    assert estimate.drawing(tmp_path, TASK, workers=2).seconds == 16 * 0.5 / 2
    draw(tmp_path, None)
    assert estimate.drawing(tmp_path, TASK).missing == 0


def test_each_setting_counts_with_its_own_pace(tmp_path):
    draw(tmp_path, None)
    slow = []
    for row in run.rows(tmp_path):
        slowly = row.run.model_copy(update={"seconds": 3.0})
        slow.append(row.model_copy(update={"run": slowly, "key": f"x{row.key}"}))
    (tmp_path / ROWS).unlink()
    run.jsonl.append(tmp_path / ROWS, [row for row in slow if row.label == "vsf"])
    assert estimate.drawing(tmp_path, TASK).seconds == 20 * 3.0


def test_an_estimate_refuses_what_the_run_itself_would_refuse(tmp_path):
    draw(tmp_path, 2)
    with pytest.raises(RequestError, match="drawn with size"):
        estimate.drawing(tmp_path, Task([NONE], PAIRS, [0], Conditions(batch=2, size=(64, 64))))


def test_judging_costs_what_the_same_judge_took_so_far(tmp_path):
    draw(tmp_path, 8)
    paid = Paid(name="paid")
    assert estimate.judging(tmp_path, paid) == estimate.JudgingEstimate("paid", 8, None, None)
    judge.judge(tmp_path, paid, InProcess(), lambda done, total: None, 2)
    assert estimate.judging(tmp_path, paid) == estimate.JudgingEstimate("paid", 6, 60, 1.5)
    assert estimate.judging_of(tmp_path, 12) == [estimate.JudgingEstimate("paid", 12, 120, 3.0)]


def test_there_is_nothing_to_judge_without_rows(tmp_path):
    with pytest.raises(RequestError, match="there are no rows"):
        estimate.judging(tmp_path, Paid())
