"""Plans: settings by label, from TOML, JSON or the names of published settings."""

import json
from math import inf
from pathlib import Path

import pytest

import vsf
from vsf.bench import plan
from vsf.bench.plan import Plan, Setting
from vsf.bench.run import jsonl
from vsf.errors import RequestError
from vsf.families.catalogue import presets

TOML = """
steps = 4
[[settings]]
label = "off"
method = "vsf"
knobs = { scale = 2.0, offset = inf, orthogonal = true }
schedule = { end = 0.75, layers = "0-1" }
[[settings]]
label = "CFG, 28 steps"
method = "none"
negative = "pipeline"
guidance_scale = 4.5
steps = 28
model = "tiny-base"
"""


def test_a_plan_is_read_with_the_fields_at_its_top_for_all(tmp_path):
    file = tmp_path / "plan.toml"
    file.write_text(TOML)
    off, cfg = plan.read(file, {"steps": 8}).settings
    assert (off.steps, cfg.steps) == (4, 28)
    assert off.guidance() == vsf.ValueSignFlip(scale=2.0, offset=inf, orthogonal=True)
    assert off.when() == vsf.Schedule(end=0.75, layers="0-1")
    assert (cfg.model, cfg.negative, cfg.guidance_scale) == ("tiny-base", "pipeline", 4.5)


def test_a_frozen_plan_is_read_back_with_infinity_and_switches(tmp_path):
    file = tmp_path / "plan.json"
    written = Plan(settings=(Setting(label="a", knobs={"offset": inf, "orthogonal": True, "scale": 1}, strength=0.5),))
    jsonl.write_json(file, written)
    assert plan.read(file) == written
    assert plan.read(file).settings[0].knobs["orthogonal"] is True


def test_the_identity_names_every_knob_and_is_plain_json():
    identity = Setting(label="a", knobs={"offset": inf}).identity()
    assert identity["knobs"]["scale"] == vsf.ValueSignFlip().scale
    assert json.loads(json.dumps(identity, allow_nan=False)) == identity


def test_a_plan_says_between_which_strengths_each_setting_is_swept(tmp_path):
    file = tmp_path / "plan.toml"
    file.write_text('[[settings]]\nlabel = "VSF, early"\n[[settings]]\nlabel = "b"\n[ranges]\n"VSF, early" = [0.5, 4]')
    assert plan.read(file).ranges == {"VSF, early": (0.5, 4.0)}


BAD = {
    "a range of nothing": ('[[settings]]\nlabel = "a"\n[ranges]\nb = [1, 2]', "ranges for b, but no such settings"),
    "half a range": ('[[settings]]\nlabel = "a"\n[ranges]\na = [1]', "ranges.a"),
    "no such method": ('[[settings]]\nlabel = "a"\nmethod = "vfs"', 'unknown method "vfs"'),
    "no such knob": ('[[settings]]\nlabel = "a"\nknobs = { scal = 1 }', 'no knob "scal"'),
    "knob out of range": ('[[settings]]\nlabel = "a"\nknobs = { scale = -1 }', "scale is a number from 0"),
    "no such field": ('[[settings]]\nlabel = "a"\nknob = 1', "settings.0.knob"),
    "no such schedule": ('[[settings]]\nlabel = "a"\nschedule = { stop = 1 }', "a schedule has start, end"),
    "no label": ('[[settings]]\nmethod = "vsf"', "settings.0.label"),
    "two of one label": ('[[settings]]\nlabel = "a"\n[[settings]]\nlabel = "a"', "labels have to differ, but a"),
    "no settings": ("steps = 4", "has no settings"),
    "an empty list": ("settings = []", "at least 1 item"),
    "a list of text": ('settings = ["a"]', "settings.0"),
    "no TOML": ("[[settings", "cannot read the plan"),
    "guided twice": ('[[settings]]\nlabel = "a"\nnegative = "pipeline"\nguidance_scale = 4', 'only with method "none"'),
    "no such context": ('[[settings]]\nlabel = "a"\nwithin = "car"', "settings.0.within"),
    "an ablation in context": (
        '[[settings]]\nlabel = "a"\nmethod = "vsf-padded"\nwithin = "subject"',
        "within is for methods that read the negative by itself",
    ),
    "pipeline without guidance": ('[[settings]]\nlabel = "a"\nmethod = "none"\nnegative = "pipeline"', "above 1"),
}


@pytest.mark.parametrize(("text", "message"), BAD.values(), ids=BAD)
def test_a_plan_that_is_wrong_says_where(tmp_path, text, message):
    file = tmp_path / "plan.toml"
    file.write_text(text)
    with pytest.raises(RequestError) as caught:
        plan.read(file)
    assert message in str(caught.value)


def test_a_plan_that_is_not_there_is_a_request_error(tmp_path):
    with pytest.raises(RequestError, match="cannot read the plan"):
        plan.read(tmp_path / "none.toml")


PLANS = Path(__file__).parents[2] / "benchmarks" / "plans"


@pytest.mark.parametrize("file", sorted(PLANS.glob("*.toml")), ids=lambda file: file.stem)
def test_the_plans_of_the_repository_can_be_read(file):
    assert plan.read(file).settings


def test_the_paper_is_repeated_with_the_presets_of_its_model():
    settings = {setting.label: setting for setting in plan.read(PLANS / "paper.toml").settings}
    assert {setting.steps for setting in settings.values()} == {8}
    for label, method, name in (
        ("VSF quality", "vsf", "quality"),
        ("VSF strong", "vsf", "strong"),
        ("NAG", "nag", "quality"),
        ("NAG++", "nag", "strong"),
        ("NASA", "nasa", "quality"),
    ):
        assert settings[label].method == method
        assert settings[label].knobs == dict(presets.find("sd3", method, name).knobs)
