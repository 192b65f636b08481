"""The speed benchmark's own arithmetic: intervals, bounds, counts, and the page that it fills."""

import shutil
import sys
from pathlib import Path

import pytest
import torch

import vsf

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def _modules(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    yield
    for name in ("speed", "speed_rows", "speed_table", "speed_worker", "speed_models", "speed_references"):
        sys.modules.pop(name, None)


def test_the_interval_holds_the_median_as_often_as_it_says():
    from speed_rows import order_interval

    assert order_interval(range(1, 31)) == (10, 21)  # from tables of the sign test
    assert order_interval([3.0]) == (3.0, 3.0)
    samples = torch.distributions.Exponential(1.0).sample((2000, 30))
    truth, held = torch.log(torch.tensor(2.0)), 0
    for sample in samples.tolist():
        low, high = order_interval(sample)
        held += low <= truth <= high
    assert 0.95 <= held / 2000 <= 0.97


def test_a_bound_breaks_only_where_the_whole_interval_lies_above():
    from speed_rows import BOUNDS, broken

    row = {"checkout": "here", "model": "sd3-blocks", "run": "vsf", "batch": 1, "ratio": 1.05, "lo": 1.02, "hi": 1.08}
    assert broken([row], BOUNDS) == []
    ((bound, _),) = broken([{**row, "lo": 1.031}], BOUNDS)
    assert bound.most == 1.03
    assert broken([{**row, "lo": 1.031, "checkout": "against"}], BOUNDS) == []
    counted = {"checkout": "here", "model": "sd3-blocks", "run": "nag", "python_calls": 61, "added_operations": 30}
    assert [bound.figure for bound, _ in broken([counted], BOUNDS)] == ["python_calls"]


def test_rounds_are_reduced_to_medians_of_ratios():
    from speed import summary

    base = [{"ms": 10.0 + at} for at in range(9)]
    taken, before = ([{"ms": factor * one["ms"]} for one in base] for factor in (1.1, 1.4))
    row = summary(taken, base, {"graphs": 0}, {}, before, base)
    assert row["ratio"] == pytest.approx(1.1)
    assert row["over_against"] == pytest.approx(1.1 / 1.4)
    assert row["added_over_against"] == pytest.approx(0.25)
    assert row["added_over_against_lo"] < 0.25 < row["added_over_against_hi"]
    unguided = summary(base, base, {}, {}, base, base)
    assert (unguided["ratio"], unguided["lo"], unguided["hi"], unguided["added_ms"]) == (1, 1, 1, 0)


def test_views_and_allocations_launch_nothing():
    from speed_worker import CountOperations

    a, b, heads = torch.ones(4, 4), torch.ones(4, 4), torch.ones(1, 1, 4, 8)
    with CountOperations() as counted:
        (a + b).mT[:2].expand(3, 2, 4)
        torch.empty(3)
    assert counted.launching == 1
    with CountOperations() as counted:
        a.mul_(2)
        torch.nn.functional.scaled_dot_product_attention(heads, heads, heads)
    assert (counted.launching, counted.attention) == (2, 1)


def test_the_references_compute_what_the_methods_compute():
    """The image rows of one block, before anything else is done with them."""
    from speed_models import MODELS
    from speed_references import DenseMask, DoubledRows, nag, nasa, processor

    model = MODELS["sd3-blocks"].build(True, 2).eval()
    inputs = {**MODELS["sd3-blocks"].inputs(model, 1, 64), "return_dict": False}
    negative = torch.randn(1, 5, 64)
    more = {**inputs, "encoder_hidden_states": torch.cat([inputs["encoder_hidden_states"], negative], 1)}
    with torch.no_grad():
        with vsf.guide(model, negative=vsf.Negative((negative[0],)), method=vsf.ValueSignFlip(scale=1.3, offset=-0.4)):
            expected = model(**inputs)[0]
        with processor(model, DenseMask(5, 1.3, -0.4)):
            torch.testing.assert_close(model(**more)[0], expected, atol=1e-5, rtol=1e-5)
        # Equal texts leave NAG nothing to push away.
        same = {**inputs, "encoder_hidden_states": inputs["encoder_hidden_states"].repeat(2, 1, 1)}
        unguided = model(**inputs)[0]
        with processor(model, DoubledRows(nag)):
            torch.testing.assert_close(model(**same)[0], unguided, atol=1e-5, rtol=1e-5)
        with processor(model, DoubledRows(nasa)):
            assert not torch.allclose(model(**same)[0], unguided, atol=1e-3)


def test_the_page_is_what_its_rows_make_of_it(tmp_path):
    from speed_table import write

    docs = BENCHMARKS.parent / "docs"
    (tmp_path / "images").mkdir()
    shutil.copy(docs / "performance.md", tmp_path)
    write(BENCHMARKS / "results", tmp_path)
    assert (tmp_path / "performance.md").read_text() == (docs / "performance.md").read_text()
    assert len(list((tmp_path / "images").glob("*.png"))) == 2
