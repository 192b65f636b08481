"""The search finds the best setting that keeps a bound, on a frontier that is known."""

import math

import pytest

import settings_search
import vsf
from sampling import Row
from settings_search import NONE, Form, Search, admissible, margin

GENTLE, HARSH, UGLY = Form(), Form(orthogonal=False), Form(special_tokens="keep")


def rows(positive, negative, quality, count):
    """Rows with these shares, as exactly as `count` allows."""
    drawn = []
    for index in range(count):
        there, gone = index < round(positive * count), index < round(negative * count)
        drawn.append(Row("", "dev", "", "", index, there, gone, True, True, None, quality, ""))
    return drawn


def frontier(setting):
    """Positive, negative and quality of a world in which more scale costs more; the gentle form costs least."""
    if setting == NONE:
        return 1.0, 0.2, 0.4
    method = setting.method
    cost = 0.02 if method.orthogonal else 0.06
    ugly = 0.2 if method.special_tokens == "keep" else 0.39
    return max(0.0, 1 - cost * method.scale), min(1.0, 0.2 + 0.1 * method.scale), ugly


class World:
    def __init__(self, measure=frontier):
        self.measure, self.asked = measure, []

    def draw(self, settings, prompts):
        self.asked.append((len(settings), prompts))
        return {setting: rows(*self.measure(setting), prompts) for setting in settings}


def test_the_best_of_the_gentlest_form_is_chosen_for_each_bound():
    chosen = Search(World().draw, [HARSH, GENTLE, UGLY], 800).run([0.87, 0.97])
    safe = [1 - 0.02 * setting.method.scale for setting in chosen]
    for setting, bound, positive in zip(chosen, (0.87, 0.97), safe, strict=True):
        assert setting.method.orthogonal
        assert setting.method.special_tokens == "strip"
        assert positive >= bound
    assert chosen[0].method.scale > chosen[1].method.scale


def test_what_is_chosen_leaves_a_margin_for_noise_and_no_more():
    (chosen,) = Search(World().draw, [GENTLE], 800).run([0.87])
    expected = (1 - 0.87 - margin(0.87, settings_search.FINAL, 800)) / 0.02
    assert chosen.method.scale == pytest.approx(expected, rel=0.05)


def test_where_nothing_leaves_the_margin_the_bound_itself_has_to_do():
    def measure(setting):
        return (0.975, 0.2, 0.4) if setting == NONE else (0.975 - 0.002 * setting.method.scale, 0.5, 0.4)

    (chosen,) = Search(World(measure).draw, [GENTLE], 800).run([0.97])
    assert 0.5 < chosen.method.scale < 4


def test_without_a_setting_that_keeps_the_bound_the_one_that_keeps_most_is_chosen():
    def measure(setting):
        return (0.6, 0.2, 0.4) if setting == NONE else (0.5 - 0.01 * setting.method.scale, 0.9, 0.4)

    (chosen,) = Search(World(measure).draw, [GENTLE], 800).run([0.87])
    assert chosen.method.scale == settings_search.FINEST


def test_the_rounds_draw_ever_fewer_settings_on_ever_more_prompts():
    world = World()
    Search(world.draw, [HARSH, GENTLE, UGLY], 800).run([0.87, 0.97])
    assert [prompts for _, prompts in world.asked] == [
        settings_search.COARSE,
        settings_search.FINE,
        settings_search.FINAL,
    ]
    counts = [settings for settings, _ in world.asked]
    assert counts[0] == 1 + 3 * len(settings_search.SCALES)
    assert counts[2] <= 1 + 2 * settings_search.FINALISTS
    assert settings_search.COARSE < settings_search.FINE < settings_search.FINAL


def test_the_table_has_every_setting_once_with_what_it_was_scored_on():
    found = Search(World().draw, [HARSH, GENTLE], 800)
    found.run([0.87])
    table = found.table()
    assert table[0]["setting"] == "none"
    assert len({row["setting"] for row in table}) == len(table)
    assert {row["prompts"] for row in table} == {settings_search.COARSE, settings_search.FINE, settings_search.FINAL}


def test_the_margin_is_the_spread_of_a_difference_of_two_samples():
    assert margin(0.5, 100, 400) == pytest.approx(1.64 * math.sqrt(0.25 / 100 + 0.25 / 400))
    assert margin(0.97, 384, 800) < margin(0.97, 64, 800)


def test_a_form_names_all_that_it_sets():
    form = Form(offset=-1.0, special_tokens="keep", schedule=vsf.Schedule(start=0.25, end=0.75, layers="0,2"))
    setting = form.at(2.5)
    assert setting.name == "vsf scale=2.5 offset=-1 tokens=keep orthogonal steps=0.25–0.75 layers=0+2"
    assert (setting.method.scale, setting.method.offset, setting.schedule.end) == (2.5, -1.0, 0.75)


def test_the_names_of_all_settings_differ():
    names = [form.at(scale).name for form in settings_search.FORMS for scale in settings_search.SCALES]
    assert len(set(names)) == len(names)


def test_what_cannot_be_read_is_not_admissible():
    scores = {"positive": 1.0, "negative": 1.0, "quality": 0.5}
    assert admissible(scores, scores, 0.87)
    assert not admissible({**scores, "quality": None}, scores, 0.87)
    assert not admissible(scores, {**scores, "quality": 0.56}, 0.87)
    assert admissible(scores, {**scores, "quality": 0.55}, 0.87)
