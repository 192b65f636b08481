"""The factorial: every method in every context, the same budget, one operating point each."""

import json
from math import log2

import pytest

from support.bench_fixtures import NONE, PAIRS, Coloured
from vsf.bench import factorial, plan
from vsf.bench.factorial import Round, read_rounds, search
from vsf.bench.plan import plan_of
from vsf.bench.run import draw as run
from vsf.bench.run.batch import Conditions
from vsf.bench.run.rows import rows
from vsf.bench.sweep import Evaluator
from vsf.engines import InProcess
from vsf.errors import KnobError, RequestError
from vsf.judges.base import Verdict

ENTRIES = [
    {"label": "none", "method": "none"},
    {"label": "CFG", "method": "cfg"},
    {"label": "NASA", "method": "nasa"},
    {"label": "VSF", "method": "vsf"},
]
FREE = {
    "CFG": {"scale": (1.5, 8.0), "end": (0.5, 1.0)},
    "NASA": {"scale": (0.1, 1.0), "end": (0.5, 1.0)},
    "VSF": {"scale": (0.5, 8.0), "offset": (-1.0, 1.0)},
}
ROUNDS = (Round(4, 2), Round(2, 4), Round(1, 5))


class Hills:
    """Is content with a scale near 2, and the more so in a context."""

    name, version, batch, waits = "hills", "1", 100, False

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, cases):
        row_of = {self.folder / row.image: row for row in rows(self.folder)}
        return [self._verdict(row_of[case.file]) for case in cases]

    def _verdict(self, row):
        near = abs(row.knobs.get("scale", 0) - 2) < (3 if row.within else 1)
        return Verdict(True, near, 0.5, "", checks={"colour": near})


@pytest.fixture
def evaluator(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "DrawJob", Coloured)
    monkeypatch.setattr(run, "identify", lambda model: (model, "revision"))
    task = run.Task([], PAIRS, [0], Conditions(batch=5))
    return Evaluator(tmp_path, task, Hills(tmp_path), InProcess(), InProcess())


def silent(done, total):
    pass


def design(entries=ENTRIES, free=FREE):
    return factorial.factorial(plan_of(entries, further={"free": free}))


def test_every_method_is_crossed_with_every_context_and_what_does_not_exist_is_named():
    found = design()
    assert [cell.start.label for cell in found.cells] == [
        *("none", "CFG"),
        *("NASA", "NASA, window", "NASA, context", "NASA, both"),
        *("VSF", "VSF, window", "VSF, context", "VSF, both"),
    ]
    assert set(found.left_out) == {
        *("none, window", "none, context", "none, both"),
        *("CFG, window", "CFG, context", "CFG, both"),
    }
    both = found.cells[-1].start
    assert (both.within, both.schedule) == ("subject", {"layers": "0-1", "end": 0.75})


def test_every_cell_tries_the_same_points_of_the_unit_square():
    cells = {cell.start.label: cell for cell in design().cells}
    nasa, vsf = (cells[name].trials(16) for name in ("NASA", "VSF"))
    for first, second in zip(nasa, vsf, strict=True):
        # 0.1 to 1 spans one power of ten, 0.5 to 8 spans sixteen, both on a logarithmic axis
        assert (second.knobs["scale"] / 0.5) == pytest.approx((first.knobs["scale"] / 0.1) ** 1.204, rel=0.03)
        assert second.knobs["offset"] == pytest.approx(2 * log2(first.schedule["end"] / 0.5) - 1, abs=0.02)
    assert len({setting.label for setting in vsf}) == 16
    assert cells["none"].trials(16) == [NONE.model_copy(update={"label": "none"})]
    assert vsf == cells["VSF"].trials(16)


def test_methods_with_different_numbers_of_free_knobs_are_refused():
    with pytest.raises(RequestError, match=r"same number of free knobs.*NASA 1.*VSF 2"):
        design(free={**FREE, "NASA": {"scale": (0.1, 1.0)}})
    with pytest.raises(RequestError, match='"NASA" has no number called tau; it has scale'):
        design(free={**FREE, "NASA": {"scale": (0.1, 1.0), "tau": (1.0, 2.0)}})
    with pytest.raises(KnobError):
        design(free={**FREE, "NASA": {"scale": (0.1, 11.0), "end": (0.5, 1.0)}})


def test_without_a_word_about_it_the_scale_alone_is_free():
    entries = [{"label": "vsf", "method": "vsf"}, {"label": "nag", "method": "nag"}]
    assert [list(cell.free) for cell in design(entries, {}).cells] == [["scale"]] * 8


def test_the_images_are_counted_before_any_is_drawn(evaluator):
    found = design()
    assert found.images(ROUNDS, 1) == 9 * (4 * 2 + 2 * 2 + 1) + 5
    search(found, evaluator, ROUNDS, silent)
    assert len(rows(evaluator.folder)) == found.images(ROUNDS, 1)


def test_each_cell_gets_its_best_setting_and_the_plan_of_them_can_be_run(evaluator):
    result = search(design(), evaluator, ROUNDS, silent)
    assert json.loads((evaluator.folder / "factorial.json").read_text()) == json.loads(result.model_dump_json())
    frozen = plan.read(evaluator.folder / "frozen.json").settings
    assert [setting.label for setting in frozen] == list(result.chosen.values())
    assert set(result.chosen) == {cell.start.label for cell in design().cells}
    for cell in result.chosen:
        first_round = [trial for trial in result.trials if trial.cell == cell and trial.round == 1]
        last = [trial for trial in result.trials if trial.label == result.chosen[cell]][-1]
        assert (last.round, last.prompts) == (3, 5)
        assert last.success == max(trial.success for trial in first_round)
        assert 0 <= result.hypervolume[cell] <= 1
    assert result.hypervolume["none"] == 0


def test_a_search_that_was_stopped_ends_like_one_that_was_not(evaluator, monkeypatch):
    points, calls = Evaluator.points, []

    def stop(self, settings, progress, prompts=None):
        calls.append(prompts)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return points(self, settings, progress, prompts)

    with monkeypatch.context() as patch:
        patch.setattr(Evaluator, "points", stop)
        with pytest.raises(KeyboardInterrupt):
            search(design(), evaluator, ROUNDS, silent)
    result = search(design(), evaluator, ROUNDS, silent)
    count = len(rows(evaluator.folder))
    # Now there are rows of more prompts than the first round has; they must not count in it.
    assert search(design(), evaluator, ROUNDS, silent) == result
    assert len(rows(evaluator.folder)) == count == design().images(ROUNDS, 1)


def test_rounds_are_read_and_those_that_make_no_sense_are_refused(evaluator):
    assert read_rounds("16x100, 4x400,1x1000") == factorial.ROUNDS
    for text in ("16", "16x", "0x5", "ax5"):
        with pytest.raises(RequestError, match="--rounds"):
            read_rounds(text)
    with pytest.raises(RequestError, match="no more settings"):
        search(design(), evaluator, (Round(1, 2), Round(2, 4)), silent)
    with pytest.raises(RequestError, match="asks for 6 prompts, and the suite has 5"):
        search(design(), evaluator, (Round(1, 6),), silent)


def test_a_judge_that_does_not_tell_success_is_refused(evaluator, monkeypatch):
    monkeypatch.setattr(Hills, "_verdict", lambda self, row: Verdict(True, True, 0.5, ""))
    with pytest.raises(RequestError, match="does not tell full success"):
        search(design(), evaluator, ROUNDS, silent)
