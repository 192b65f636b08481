"""Settings scored on dev prompts, grids over a knob, and the best points frozen."""

import json
import math
from fractions import Fraction

import pytest

import vsf
from support.bench_fixtures import NONE, PAIRS, VSF, Coloured
from vsf import guidance
from vsf.bench import plan, sweep
from vsf.bench.plan import Setting
from vsf.bench.run import draw as run
from vsf.bench.run.batch import Conditions
from vsf.bench.run.rows import rows
from vsf.bench.sweep import Evaluator, Point, at_positive_score, finite_range, grid, nearest_frontier
from vsf.engines import InProcess
from vsf.errors import KnobError, RequestError
from vsf.judges.base import Verdict


class Hills:
    """Scores images by the scale that they were drawn with: less is kept, and more removed, as it grows."""

    name, version, batch, waits = "hills", "1", 100, False

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, cases):
        scales = {self.folder / row.image: row.knobs.get("scale", 0) for row in rows(self.folder)}
        return [Verdict(scales[case.file] < 5, scales[case.file] > 2, 1 - scales[case.file] / 20, "") for case in cases]


@pytest.fixture
def evaluator(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "DrawJob", Coloured)
    monkeypatch.setattr(run, "identify", lambda model: (model, "revision"))
    task = run.Task([], PAIRS[:2], [0], Conditions(batch=5))
    return Evaluator(tmp_path, task, Hills(tmp_path), InProcess(), InProcess())


def silent(done, total):
    pass


@pytest.mark.parametrize("method", guidance.METHODS)
def test_every_number_of_every_method_has_a_finite_range_around_its_default(method):
    for knob in guidance.knobs(guidance.METHODS[method]):
        if not knob.choices:
            low, high = finite_range(knob)
            assert -math.inf < low <= knob.default <= high < math.inf
            assert low < high
            knob.check(high)


def test_a_grid_steps_evenly_over_the_range_that_the_knob_declares():
    settings = grid(VSF, "scale", 20)
    assert [setting.strength for setting in settings] == pytest.approx([0.5 * step for step in range(1, 21)])
    assert all(setting.knobs["scale"] == setting.strength for setting in settings)
    assert len({setting.label for setting in settings}) == 20
    assert [setting.strength for setting in grid(VSF, "scale", 3, (1.0, 2.0))] == [1.0, 1.5, 2.0]


def test_a_grid_over_what_is_no_number_or_out_of_range_is_refused():
    with pytest.raises(RequestError, match="no number called layout"):
        grid(VSF, "layout", 20)
    with pytest.raises(RequestError, match="no number called scale"):
        grid(NONE, "scale", 20)
    with pytest.raises(RequestError, match="at least 2"):
        grid(VSF, "scale", 1)
    with pytest.raises(KnobError):
        grid(VSF, "scale", 3, (-1.0, 2.0))


def point(strength, positive, negative):
    setting = VSF.model_copy(update={"label": f"{strength}", "strength": strength})
    return Point(setting, None, Fraction(str(positive)), Fraction(str(negative)), Fraction(1))


def test_the_points_nearest_the_frontier_are_kept_in_order_of_strength():
    points = [point(4, 0.5, 0.9), point(1, 1.0, 0.1), point(3, 0.6, 0.5), point(2, 0.9, 0.6), point(5, 0.2, 0.2)]
    assert [found.setting.strength for found in nearest_frontier(points, 3)] == [1, 2, 4]
    assert [found.setting.strength for found in nearest_frontier(points, 4)] == [1, 2, 3, 4]
    assert len(nearest_frontier(points, 99)) == 5


def test_a_crowded_frontier_is_thinned_evenly_with_both_ends_kept():
    points = [point(step, 1 - step / 20, step / 20) for step in range(21)]
    assert [found.setting.strength for found in nearest_frontier(points, 6)] == [0, 4, 8, 12, 16, 20]


def test_the_points_on_both_sides_of_a_positive_score_stand_for_their_curve():
    points = [point(1, 1.0, 0.1), point(2, 0.95, 0.4), point(3, 0.85, 0.6), point(4, 0.8, 0.5)]
    assert [found.setting.strength for found in at_positive_score(points, 0.9)] == [2, 3]
    assert [found.setting.strength for found in at_positive_score(points, 0.95)] == [2]
    assert [found.setting.strength for found in at_positive_score(points, 0.5)] == [3]
    assert at_positive_score(points[1:], 1.0) == []


def test_frozen_points_are_a_plan_that_draws_the_same_settings(tmp_path):
    points = [point(1, 1, 0), Point(Setting(label="b", knobs={"offset": math.inf}), None, 1, 0, 1)]
    sweep.freeze(tmp_path / "frozen.json", [point.setting for point in points])
    assert json.loads((tmp_path / "frozen.json").read_text())["settings"][1]["knobs"] == {"offset": "inf"}
    assert list(plan.read(tmp_path / "frozen.json").settings) == [point.setting for point in points]
    assert plan.read(tmp_path / "frozen.json").settings[1].guidance() == vsf.ValueSignFlip(offset=math.inf)


def test_an_unscored_setting_has_no_point(evaluator, monkeypatch):
    judge = Hills.__call__

    def blind_to_the_strong(self, cases):
        blind, seen = Verdict(None, None, None, "refused: no"), judge(self, cases)
        return [blind if one.quality < 0.6 else one for one in seen]

    monkeypatch.setattr(Hills, "__call__", blind_to_the_strong)
    mild, strong = grid(VSF, "scale", 2, (1.0, 9.0))
    assert [point.setting for point in evaluator.points([mild, strong], silent)] == [mild]


def test_a_search_of_which_nothing_could_be_scored_is_an_error(evaluator, monkeypatch):
    monkeypatch.setattr(Hills, "__call__", lambda self, cases: [Verdict(None, None, None, "refused: no")] * len(cases))
    with pytest.raises(RequestError, match='not one image could be scored; the first, of "vsf": refused: no'):
        evaluator.points([VSF], silent)
