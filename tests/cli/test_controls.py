"""The controls on the command line: several negatives, schedules, masks, presets and the report."""

import json

import pytest
from PIL import Image

from support.pictures import pixels_differ
from vsf.cli import generate as command
from vsf.generation.metadata import provenance


def test_several_negatives_with_weights_act_and_are_remembered(draw):
    assert draw("--negative", "wheels", "--out", "one.png")[0] == 0
    assert draw("--negative", "wheels", "--negative", "(lights:0.5)", "--out", "two.png")[0] == 0
    assert draw("--negative", "wheels", "--negative", "(lights:0)", "--out", "again.png")[0] == 0
    assert pixels_differ("one.png", "two.png")
    assert not pixels_differ("one.png", "again.png")
    assert provenance.read("one.png")["negative"] == "wheels"
    assert provenance.read("two.png")["negative"] == {"wheels": 1.0, "lights": 0.5}


def test_a_negative_within_the_prompt_is_one_like_any_other(vsf, folder, draw):
    assert draw("--negative", "(wheels:1.2)", "--out", "flag.png")[0] == 0
    words = ("--model", folder, "--size", 16, "--steps", 2, "--out", "inline.png")
    assert vsf("generate", "a red car (wheels:-1.2)", *words)[0] == 0
    assert not pixels_differ("flag.png", "inline.png")
    assert provenance.read("inline.png")["prompt"] == "a red car (wheels:-1.2)"


def test_a_file_is_named_after_what_is_drawn(vsf, folder):
    out = vsf("generate", "a red car (wheels:-1.2)", "--model", folder, "--size", 16, "--steps", 1)[1]
    assert out == "out/a-red-car-0001.png  (seed 0)\n"


def test_a_colon_is_text_and_what_looks_like_a_weight_is_pointed_out(draw):
    assert draw("--negative", "note: wheels", "--out", "a.png")[2] == ""
    code, _, err = draw("--negative", "wheels:0.5", "--out", "b.png")
    assert code == 0
    assert 'note: "wheels:0.5" is taken as text; for a weight write "(wheels:0.5)".' in err
    assert provenance.read("b.png")["negative"] == "wheels:0.5"


CONTROLS = {
    "end": ["--end", 0.5],
    "start": ["--start", 0.5],
    "curve": ["--curve", "linear"],
    "layers": ["--layers", "0"],
    "mask": ["--mask", "0,0,.5,1"],
}


def test_each_control_acts_and_comes_back_with_the_picture(draw, vsf, folder):
    strong = ("--negative", "wheels", "--scale", 10, "--offset", -5)
    assert draw(*strong, "--out", "plain.png")[0] == 0
    for name, words in CONTROLS.items():
        assert draw(*strong, "--out", f"{name}.png", *words) == (0, f"{name}.png  (seed 0)\n", "")
        assert pixels_differ(f"{name}.png", "plain.png")
        assert vsf("generate", "--like", f"{name}.png", "--model", folder, "--out", "again.png")[0] == 0
        assert not pixels_differ("again.png", f"{name}.png")
        assert provenance.read("again.png") == provenance.read(f"{name}.png")


def test_a_schedule_that_is_off_is_no_guidance(draw):
    draw("--out", "none.png")
    assert draw("--negative", "wheels", "--start", 0.5, "--end", 0.5, "--out", "off.png")[0] == 0
    assert not pixels_differ("none.png", "off.png")


def test_a_mask_file_and_the_same_box_draw_the_same(draw, vsf, folder, tmp_path):
    mask = Image.new("L", (16, 16))
    mask.paste(255, (0, 0, 8, 16))
    mask.save(tmp_path / "mask.png")
    draw("--negative", "wheels", "--mask", "0,0,0.5,1", "--out", "box.png")
    draw("--negative", "wheels", "--mask", "mask.png", "--out", "file.png")
    assert not pixels_differ("box.png", "file.png")
    code, _, err = vsf("generate", "--like", "file.png", "--model", folder)
    assert code == 2
    assert "give it with --mask" in err
    vsf("generate", "--like", "file.png", "--model", folder, "--mask", "mask.png", "--out", "again.png")
    assert not pixels_differ("file.png", "again.png")


def test_controls_may_stand_in_a_config_file(draw, tmp_path):
    (tmp_path / "run.toml").write_text(
        'negative = ["wheels", "(lights:0.5)"]\nend = 0.5\ncurve = "cosine"\nlayers = [0]\nmask = [0, 0, 0.5, 1]\n'
        "report = true\n"
    )
    assert draw("--config", "run.toml", "--curve", "linear", "--out", "a.png")[0] == 0
    read = provenance.read("a.png")
    assert read["negative"] == {"wheels": 1.0, "lights": 0.5}
    assert read["schedule"] == {"start": 0.0, "end": 0.5, "curve": "linear", "layers": [0], "over": "steps"}
    assert read["mask"] == [0, 0, 0.5, 1]
    assert (tmp_path / "a.report.json").is_file()
    (tmp_path / "run.toml").write_text("[negative]\nwheels = 1.0\nlights = 0.5\n")
    draw("--config", "run.toml", "--out", "b.png")
    assert provenance.read("b.png")["negative"] == {"wheels": 1.0, "lights": 0.5}


def test_a_preset_sets_the_knobs_and_a_flag_beats_it(draw):
    assert draw("--negative", "wheels", "--preset", "strong", "--scale", 3, "--out", "a.png")[0] == 0
    knobs = provenance.read("a.png")["knobs"]
    assert (knobs["scale"], round(knobs["offset"], 3)) == (3.0, -0.598)
    draw("--negative", "wheels", "--method", "nag", "--preset", "strong", "--out", "b.png")
    assert provenance.read("b.png")["knobs"] == {"scale": 9.0, "tau": 5.0, "alpha": 0.5, "norm": "l1"}


def test_the_report_lies_beside_each_picture_and_is_told(draw, tmp_path):
    code, out, err = draw(
        "--negative", "wheels", "--negative", "(lights:0.5)", "--count", 2, "--report", "--out", "a.png"
    )
    assert (code, err) == (0, "")
    names = [f"a-000{i}.{end}" for i in (1, 2) for end in ("heat-1.png", "heat-2.png", "png", "report.json")]
    assert sorted(file.name for file in tmp_path.iterdir()) == names
    lines = out.splitlines()
    assert lines[0] == "a-0001.png  (seed 0)"
    assert "attention calls guided" in lines[1]
    assert lines[2] == "  all figures: a-0001.report.json"
    assert lines[3].startswith("  wheels: ")
    assert lines[3].endswith("% of the attention, where: a-0001.heat-1.png")
    assert lines[4].startswith("  lights: ")


def test_the_report_is_part_of_the_json(draw, tmp_path):
    code, out, _ = draw("--negative", "wheels", "--report", "--json", "--out", "a.png")
    (entry,) = json.loads(out)
    assert code == 0
    assert entry["report"] == json.loads((tmp_path / "a.report.json").read_text())


def test_a_negative_that_never_got_attention_is_told_where_a_report_is_asked_for(draw):
    words = ("--negative", "(wheels:1e-30)", "--out", "a.png")
    assert "never got attention" not in draw(*words)[2]
    _, out, err = draw(*words, "--report")
    assert 'note: a.png: the negative "wheels" never got attention' in err
    assert "  wheels: NEVER GOT ATTENTION" in out


BAD = {
    "misspelt weight": (["--negative", "(wheels:1,2)"], "is no weight"),
    "weight within a negative": (["--negative", "blurry (bad:1.3) hands"], "only a whole negative can be weighted"),
    "negative weight": (["--negative", "(wheels:-1)"], 'write "(wheels:1)"'),
    "negative weight after another": (["--negative", "a", "--negative", "(b"], "never closed"),
    "start out of range": (["--start", 1.5], "start is a number from 0 to 1, got 1.5"),
    "start that is no number": (["--start", "nan"], "start is a number from 0 to 1, got nan"),
    "end before start": (["--start", 0.5, "--end", 0.2], "start has to lie at or before end"),
    "unknown curve": (["--curve", "square"], "curve is one of constant, linear, cosine, got 'square'"),
    "layers that are none": (["--layers", "a-b"], "layers are indices from 0"),
    "layers beyond the model": (["--layers", "0-99"], "names layer 99, but the model has 2"),
    "missing mask": (["--mask", "none.png"], 'no mask file "none.png"'),
    "empty mask": (["--mask", ""], "--mask is empty"),
    "mask of another kind": (["--mask", "run.toml"], 'cannot read the mask "run.toml"'),
    "box outside of the picture": (["--mask", "0,0,2,1"], "a box (left, top, right, bottom) in fractions"),
    "box of three": (["--mask", "0,0,1"], "a box (left, top, right, bottom) in fractions"),
    "unknown preset": (["--preset", "strongest"], 'unknown preset "strongest". Known: quality, strong'),
    "preset of another method": (["--preset", "strong", "--method", "ong"], "sd3 has no preset"),
}


@pytest.mark.parametrize(("words", "message"), BAD.values(), ids=BAD)
def test_bad_controls_are_one_clear_line_and_exit_code_2(draw, tmp_path, words, message):
    (tmp_path / "run.toml").write_text("")
    code, out, err = draw(*words)
    assert (code, out) == (2, "")
    assert message in " ".join(err.split())
    assert "Traceback" not in err
    assert not list(tmp_path.rglob("*.png"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("negative = 3", "a negative prompt has to be text, got 3"),
        ("negative = [3]", "a negative prompt has to be text, got 3"),
        ('negative = {wheels = "much"}', "has to be a number from 0 to 10"),
        ('end = "late"', "end is a number from 0 to 1, got 'late'"),
        ("layers = 3", "layers are indices from 0"),
        ('mask = [0, 0, "a", 1]', "a box (left, top, right, bottom)"),
        ("mask = 3", 'no mask file "3"'),
        ('report = "yes"', "report has to be true or false, got 'yes'"),
        ("preset = 3", 'unknown preset "3"'),
    ],
)
def test_bad_controls_in_a_config_file_are_refused(draw, tmp_path, text, message):
    (tmp_path / "run.toml").write_text(text)
    code, _, err = draw("--config", "run.toml")
    assert code == 2
    assert message in err


def test_words_of_the_prompt_can_be_weighed(vsf, folder):
    words = ("--model", folder, "--size", 16, "--steps", 2)
    for name, prompt in (("plain", "a red car"), ("heavy", "a (red:5) car"), ("one", "a (red:1) car")):
        assert vsf("generate", prompt, *words, "--out", f"{name}.png") == (0, f"{name}.png  (seed 0)\n", "")
    assert pixels_differ("plain.png", "heavy.png")
    assert not pixels_differ("plain.png", "one.png")
    assert vsf("generate", "--like", "heavy.png", "--model", folder, "--out", "again.png")[0] == 0
    assert not pixels_differ("heavy.png", "again.png")


def test_a_report_with_no_room_for_its_name_is_found_before_anything_is_loaded(draw, monkeypatch, tmp_path):
    monkeypatch.setattr(command.console, "load_quietly", lambda *_, **__: pytest.fail("the model was loaded"))
    (tmp_path / "a.heat-1.png").mkdir()
    for out, message in (("a.png", "there is a folder of that name"), ("a" * 251 + ".png", "File name too long")):
        code, _, err = draw("--negative", "wheels", "--report", "--out", out)
        assert code == 2
        assert message in err


@pytest.mark.parametrize("words", [["--end", 0.5], ["--mask", "0,0,.5,1"], ["--preset", "strong"]])
def test_a_control_without_a_negative_is_said_to_change_nothing(draw, words):
    code, _, err = draw("--out", "a.png", *words)
    assert code == 0
    assert "there is no negative prompt" in err


def test_the_help_shows_where_the_negative_acts_by_default(vsf):
    shown = " ".join(vsf("generate", "--help")[1].replace("│", " ").split())
    for text in ("(default 0.0)", "(default 1.0)", "Between: constant, linear, cosine. (default constant)"):
        assert text in shown
