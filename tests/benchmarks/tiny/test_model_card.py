"""The model card's figures are those of the committed results."""

import json
from pathlib import Path

import pytest

import model_card
from vsf.errors import RequestError

REPOSITORY = Path(__file__).parents[3]
MEASURED = {
    "figures": [
        {"name": "speed", "value": 1.0, "low": None, "high": 1.5, "note": "2 cores", "held": True},
        {"name": "removal", "value": 0.5, "low": 0.6, "high": None, "note": "", "held": False},
        {"name": "look", "value": None, "low": 0.95, "high": None, "note": "nobody looked", "held": None},
        {"name": "teacher", "value": 0.25, "low": None, "high": None, "note": "64 images", "held": None},
    ],
    "rows": [{"setting": "none"}] * 8 + [{"setting": "vsf"}] * 8,
}


def test_the_shipped_card_tells_the_committed_figures():
    measured = json.loads((REPOSITORY / model_card.RESULTS).read_text())
    card = model_card.CARD.read_text()
    assert card == model_card.updated(card, measured)
    for figure in measured["figures"]:
        assert figure["name"] in card


def test_each_figure_is_told_with_its_bound_and_whether_it_held():
    lines = model_card.section(MEASURED).splitlines()
    assert "| speed | 1.000 | ≤ 1.5 | yes | 2 cores |" in lines
    assert "| removal | 0.500 | ≥ 0.6 | **no** |  |" in lines
    assert "| look | not measured | ≥ 0.95 |  | nobody looked |" in lines
    assert "| teacher | 0.250 | 64 images |" in lines
    assert any("8 images" in line for line in lines)


def test_old_figures_are_replaced_and_the_rest_of_the_card_stays():
    card = f"before\n{model_card.BEGIN}old\n{model_card.END}after\n"
    new = model_card.updated(card, MEASURED)
    assert "old" not in new
    assert new.startswith("before\n")
    assert new.endswith("after\n")
    assert model_card.updated(new, MEASURED) == new


def test_a_card_without_a_place_for_figures_is_refused():
    with pytest.raises(RequestError, match="no place"):
        model_card.updated("a card", MEASURED)


def test_figures_of_other_weights_do_not_get_into_the_card(tmp_path):
    results, card = tmp_path / "figures.json", tmp_path / "card.md"
    results.write_text(json.dumps({**MEASURED, "about": [{"weights": {"tiny": "others"}}]}))
    card.write_text(f"{model_card.BEGIN}{model_card.END}")
    with pytest.raises(RequestError, match="other weights"):
        model_card.main(results, card)
    results.write_text(json.dumps(MEASURED))
    with pytest.raises(RequestError, match="comes first"):
        model_card.main(results, card)
