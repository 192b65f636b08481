"""`vsf compare`: every method on the same seeds, on one sheet, from one load."""

import json

import pytest
from PIL import Image

from vsf.cli import compare as command
from vsf.cli import console


@pytest.fixture
def compare(vsf, folder):
    def run(*words):
        fixed = ("--model", folder, "--size", 16, "--steps", 2)
        return vsf("compare", "a red car", "--negative", "wheels", *fixed, *words)

    return run


def test_the_sheet_has_a_column_per_method_and_a_row_per_seed(compare, monkeypatch):
    loads = []
    load = console.load_quietly
    monkeypatch.setattr(console, "load_quietly", lambda *a, **k: loads.append(a) or load(*a, **k))
    methods = "none,vsf,vsf:scale=2:offset=-.6:orthogonal=true,nag"
    code, out, err = compare("--methods", methods, "--count", 2, "--out", "sheet.png", "--json")
    assert (code, err, len(loads)) == (0, "", 1)
    document = json.loads(out)
    assert document["file"] == "sheet.png"
    cells = [(cell["method"], cell["seed"], cell["knobs"].get("scale")) for cell in document["cells"]]
    assert cells == [
        ("none", 0, None),
        ("none", 1, None),
        ("vsf", 0, 1.0),
        ("vsf", 1, 1.0),
        ("vsf", 0, 2.0),
        ("vsf", 1, 2.0),
        ("nag", 0, 4.0),
        ("nag", 1, 4.0),
    ]
    assert document["cells"][4]["knobs"]["offset"] == -0.6
    assert document["cells"][4]["knobs"]["orthogonal"] is True
    width, height = Image.open("sheet.png").size
    assert width > 4 * 256
    assert height > 2 * 256


def test_the_cells_are_what_generate_draws(compare, vsf, folder):
    compare("--methods", "vsf:scale=2", "--out", "sheet.png")
    words = ("--negative", "wheels", "--scale", 2, "--model", folder, "--size", 16, "--steps", 2, "--out", "one.png")
    vsf("generate", "a red car", *words)
    enlarged = Image.open("one.png").resize((256, 256), Image.Resampling.NEAREST)
    sheet = Image.open("sheet.png")
    assert any(
        sheet.crop((12, top, 268, top + 256)).tobytes() == enlarged.tobytes() for top in range(sheet.height - 256)
    )


def test_the_sheet_goes_to_the_out_folder_by_default(compare):
    assert compare()[1] == "out/compare.png  (2 pictures)\n"


def test_methods_may_stand_in_a_config_file(compare, tmp_path):
    (tmp_path / "run.toml").write_text('methods = ["none", "nasa:scale=.5"]\nout = "sheet.png"\n')
    assert compare("--config", "run.toml")[:2] == (0, "sheet.png  (2 pictures)\n")


def test_a_preset_is_a_column_and_its_knobs_can_be_replaced(compare):
    document = json.loads(compare("--methods", "vsf:preset=strong:scale=3,nag:preset=strong", "--json")[1])
    knobs = [cell["knobs"] for cell in document["cells"]]
    assert (knobs[0]["scale"], round(knobs[0]["offset"], 3)) == (3.0, -0.598)
    assert knobs[1]["tau"] == 5.0


def test_controls_hold_for_every_column(vsf, folder):
    words = (
        "compare",
        "a red car (lights:-0.5)",
        "--negative",
        "wheels",
        "--model",
        folder,
        "--size",
        16,
        "--steps",
        2,
    )
    words = (*words, "--end", 0.5, "--mask", "0,0,.5,1", "--methods", "vsf,nag", "--json")
    cells = json.loads(vsf(*words)[1])["cells"]
    assert [(cell["prompt"], cell["negative"], cell["mask"]) for cell in cells] == [
        ("a red car (lights:-0.5)", "wheels", [0, 0, 0.5, 1])
    ] * 2
    assert [cell["schedule"]["end"] for cell in cells] == [0.5, 0.5]


BAD = {
    "unknown preset": ("vsf:preset=stronger", 'unknown preset "stronger"'),
    "unknown method": ("none,vfs", 'unknown method "vfs"'),
    "no method": ("none,,vsf", 'unknown method ""'),
    "unknown knob": ("vsf:scal=1", 'no knob "scal"'),
    "knob without value": ("vsf:scale", 'name=value, got "scale"'),
    "knob that is no number": ("vsf:scale=much", 'scale has to be a number, got "much"'),
    "switch that is neither": ("vsf:orthogonal=1", 'orthogonal has to be true or false, got "1"'),
    "knob out of range": ("vsf:scale=-1", "scale is a number from 0 to 10"),
}


@pytest.mark.parametrize(("methods", "message"), BAD.values(), ids=BAD)
def test_a_bad_list_of_methods_is_refused_before_anything_is_loaded(compare, monkeypatch, methods, message):
    monkeypatch.setattr(command.console, "load_quietly", lambda *_, **__: pytest.fail("the model was loaded"))
    code, _, err = compare("--methods", methods)
    assert code == 2
    assert message in err


def test_an_empty_prompt_and_an_unwritable_sheet_are_refused(vsf, compare):
    assert vsf("compare", "--negative", "wheels")[0] == 2
    code, _, err = compare("--out", "/dev/null/sheet.png")
    assert code == 2
    assert "cannot write" in err


def test_methods_without_a_negative_are_said_to_change_nothing(vsf, folder):
    words = ("compare", "a red car", "--model", folder, "--size", 16, "--steps", 1)
    assert "there is no negative prompt" in vsf(*words)[2]
    assert vsf(*words, "--methods", "none")[2] == ""


def test_a_sheet_cannot_be_repeated_like_a_picture(compare, vsf):
    compare("--out", "sheet.png")
    code, _, err = vsf("generate", "--like", "sheet.png")
    assert code == 2
    assert "sheet of several pictures" in err
