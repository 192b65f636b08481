"""The search of knobs: the same budget for each method, resumable, its best points frozen."""

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
from vsf.bench.sweep import Evaluator, Point, at_positive_score, finite_range, grid, nearest_frontier, search
from vsf.engines import InProcess
from vsf.errors import KnobError, RequestError
from vsf.judges.base import Verdict

START = Setting(label="vsf", method="vsf", knobs={"layout": "paper", "special_tokens": "keep", "orthogonal": False})
NAG = Setting(label="nag", method="nag", knobs={"norm": "l1"})


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


def tried(folder):
    return {row.label for row in rows(folder)}


def test_each_method_gets_the_same_number_of_trials_and_the_best_are_returned(evaluator):
    best = search(evaluator, [START, NAG], 10, silent)
    labels = tried(evaluator.folder)
    assert sum(label.startswith("vsf ") for label in labels) == 10
    assert sum(label.startswith("nag ") for label in labels) == 10
    for method in ("vsf", "nag"):
        front = [point for point in best if point.setting.method == method]
        assert front
        assert all(
            point.setting.knobs.items() >= dict(NAG.knobs if method == "nag" else START.knobs).items()
            for point in front
        )
        for point in front:
            others = [(o.positive, o.negative, o.quality) for o in front if o is not point]
            mine = (point.positive, point.negative, point.quality)
            assert not any(all(a >= b for a, b in zip(other, mine, strict=True)) and other != mine for other in others)


def test_a_search_that_was_stopped_goes_on_and_tries_no_more_than_its_budget(evaluator, monkeypatch):
    points, calls = Evaluator.points, []

    def stop(self, settings, tick):
        calls.append(len(settings))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return points(self, settings, tick)

    with monkeypatch.context() as patch:
        patch.setattr(Evaluator, "points", stop)
        with pytest.raises(KeyboardInterrupt):
            search(evaluator, [START], 20, silent)
    assert calls == [8, 8]
    before = tried(evaluator.folder)
    search(evaluator, [START], 20, silent)
    assert before < tried(evaluator.folder)
    assert len(tried(evaluator.folder)) == 20
    search(evaluator, [START], 20, silent)
    assert len(tried(evaluator.folder)) == 20


def test_a_start_without_an_open_knob_is_refused(evaluator):
    with pytest.raises(RequestError, match="no knob to search"):
        search(evaluator, [NONE], 3, silent)


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
    return Point(setting, Fraction(str(positive)), Fraction(str(negative)), Fraction(1))


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
    points = [point(1, 1, 0), Point(Setting(label="b", knobs={"offset": math.inf}), 1, 0, 1)]
    sweep.freeze(tmp_path / "frozen.json", points)
    assert json.loads((tmp_path / "frozen.json").read_text())["settings"][1]["knobs"] == {"offset": "inf"}
    assert list(plan.read(tmp_path / "frozen.json").settings) == [point.setting for point in points]
    assert plan.read(tmp_path / "frozen.json").settings[1].guidance() == vsf.ValueSignFlip(offset=math.inf)


def test_a_setting_that_ruins_every_picture_is_tried_once_and_never_chosen(evaluator, monkeypatch):
    whole = Evaluator.points

    def points(self, settings, tick):
        return [point for point in whole(self, settings, tick) if point.setting.knobs["scale"] < 5]

    monkeypatch.setattr(Evaluator, "points", points)
    front = search(evaluator, [START], 12, silent)
    assert front
    assert all(point.setting.knobs["scale"] < 5 for point in front)
    assert len(tried(evaluator.folder)) == 12


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
