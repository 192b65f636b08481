"""Clips from a video model of random weights: four frames are kept, and the worst of them counts."""

import pytest

from families.models import tiny_wan
from support.bench_fixtures import NONE, PAIRS, VSF
from vsf.bench.run import batch as generation
from vsf.bench.run import draw as run
from vsf.bench.run import judge
from vsf.bench.run.batch import Conditions
from vsf.bench.run.draw import Task
from vsf.bench.run.rows import rows
from vsf.bench.run.scored import scored
from vsf.engines import InProcess
from vsf.judges.base import Verdict


class Picky:
    """Likes every frame but the third."""

    name, version, batch, waits = "picky", "1", 2, False

    def __call__(self, cases):
        assert all(case.image().size == (48, 32) for case in cases)
        return [Verdict(case.frame != 2, True, 0.5, f"frame {case.frame}") for case in cases]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(generation, "load", lambda request: generation.Model(tiny_wan.pipeline(), {"device": "cpu"}))
    monkeypatch.setattr(run, "identify", lambda model: (model, "revision"))
    settings = [setting.model_copy(update={"steps": 2}) for setting in (NONE, VSF)]
    conditions = Conditions(model="wan", size=(48, 32), frames=5, batch=2)
    run.run(tmp_path, Task(settings, PAIRS[:2], [0], conditions), InProcess(), lambda done, total: None)
    return tmp_path


def test_a_clip_is_one_row_and_judged_by_its_worst_frame(folder):
    drawn = rows(folder)
    assert len(drawn) == 4
    assert {(row.frames, row.size) for row in drawn} == {(4, (48, 32))}
    assert len({row.image_hash for row in drawn}) == 4
    tally = judge.judge(folder, Picky(), InProcess(), lambda done, total: None)
    assert (tally.images, tally.unscored) == (4, {})
    for score in scored(folder):
        assert (score.positive, score.negative, score.quality) == (False, True, 0.5)
        assert score.reason == "frame 3 of 4: frame 2"
