"""The report beside a picture: figures on each negative, and None for what was not observed."""

import json

import pytest
import torch
from PIL import Image

from support import tiny_pipelines as tiny
from vsf.errors import RequestError
from vsf.generation import Request, generate, report
from vsf.generation.files import report_files
from vsf.generation.metadata import provenance


@pytest.fixture(scope="module")
def pipe():
    return tiny.sd3(t5=False, patch_size=2)


@pytest.fixture
def drawn(pipe):
    """Draw one picture with these fields."""

    def run(**fields):
        return generate(
            Request(**{"prompt": "a red car", "steps": 2, "size": (16, 16), **fields}), pipe=pipe, observe=True
        )[0]

    return run


def test_every_negative_has_its_figures_and_its_picture(drawn, tmp_path):
    result = drawn(prompt="a red car (wheels:-2)", negative={"lights": 0.5})
    document = report.write(tmp_path / "car.png", result)
    assert json.loads((tmp_path / "car.report.json").read_text()) == document
    assert sorted(file.name for file in tmp_path.iterdir()) == ["car.heat-1.png", "car.heat-2.png", "car.report.json"]
    assert [(entry["text"], entry["weight"], entry["heat_map"]) for entry in document["negatives"]] == [
        ("wheels", 2.0, "car.heat-1.png"),
        ("lights", 0.5, "car.heat-2.png"),
    ]
    layers = len(document["layers"])
    assert [[len(row) for row in entry["mass"]] for entry in document["negatives"]] == [[layers] * 2] * 2
    assert [len(row) for row in document["change"]] == [layers] * 2
    assert all(0 < entry["mean_mass"] < 1 and entry["seen"] for entry in document["negatives"])
    assert document["summary"] == str(result.report)
    assert report_files(tmp_path / "car.png", 2)[0].name == "car.report.json"


def test_the_mean_is_that_of_the_figures(drawn):
    (entry,) = report.describe(drawn(negative="wheels"))["negatives"]
    values = [value for row in entry["mass"] for value in row]
    assert entry["mean_mass"] == pytest.approx(sum(values) / len(values), rel=1e-4)


def test_what_was_not_guided_has_no_figures(drawn):
    document = report.describe(drawn(negative="wheels", schedule={"layers": "0"}))
    assert {row[0] is None for row in document["change"]} == {False}
    assert {value for row in document["change"] for value in row[1:]} == {None}


def test_a_negative_that_never_got_attention_is_named(drawn, tmp_path):
    result = drawn(negative={"wheels": 1e-30, "lights": 1.0})
    assert report.unseen(result) == ["wheels"]
    document = report.write(tmp_path / "car.png", result)
    assert [entry["seen"] for entry in document["negatives"]] == [False, True]
    assert "NEVER GOT ATTENTION" in document["summary"]


@pytest.mark.parametrize("fields", [{"schedule": {"start": 0.5, "end": 0.5}}, {"method": "none"}])
def test_where_nothing_could_be_observed_nothing_is_claimed(drawn, tmp_path, fields):
    result = drawn(negative="wheels", **fields)
    (entry,) = report.write(tmp_path / "car.png", result)["negatives"]
    assert (entry["seen"], entry["mean_mass"], entry["heat_map"]) == (None, None, None)
    assert report.unseen(result) == []
    assert [file.name for file in tmp_path.iterdir()] == ["car.report.json"]


def test_the_heat_map_is_dark_where_a_mask_keeps_the_negative_out(drawn, tmp_path):
    free, boxed = (drawn(negative="wheels", mask=mask) for mask in (None, (0, 0, 0.5, 1)))
    assert report.heat_map(free, 0).min() > 0
    left, right = report.heat_map(boxed, 0).chunk(2, dim=1)
    assert left.min() > 0
    assert right.abs().max() == 0
    mask = Image.new("L", (16, 16))
    mask.paste(255, (0, 0, 8, 16))
    mask.save(tmp_path / "mask.png")
    painted = drawn(negative="wheels", mask=tmp_path / "mask.png")
    assert report.heat_map(painted, 0).equal(report.heat_map(boxed, 0))


def test_the_heat_map_of_a_clip_is_that_of_its_first_picture(drawn, monkeypatch):
    result = drawn(negative="wheels", mask=(0, 0, 0.5, 1))
    frames = torch.rand(3, 4, 6)
    monkeypatch.setattr(type(result.report), "heat_map", lambda *_: frames)
    left, right = report.heat_map(result, 0).chunk(2, dim=1)
    assert left.equal(frames[0, :, :3])
    assert right.abs().max() == 0


def test_without_a_negative_the_report_has_none(drawn, tmp_path):
    document = report.write(tmp_path / "car.png", drawn())
    assert (document["negatives"], document["steps"]) == ([], 0)


def test_a_heat_map_is_not_taken_for_a_picture_to_repeat(drawn, tmp_path):
    report.write(tmp_path / "car.png", drawn(negative="wheels"))
    assert Image.open(tmp_path / "car.heat-1.png").width == 256
    with pytest.raises(RequestError, match="is a heat map; --like wants the picture beside it"):
        provenance.read(tmp_path / "car.heat-1.png")


def test_a_report_that_cannot_be_written_says_so_and_leaves_nothing(drawn, tmp_path):
    (tmp_path / "car.report.json").mkdir()
    with pytest.raises(RequestError, match="cannot write"):
        report.write(tmp_path / "car.png", drawn())
    assert [file.name for file in tmp_path.iterdir()] == ["car.report.json"]
