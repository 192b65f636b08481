"""Sheets to look at before the judge does, and the tally afterwards."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import agreement
from agreement import sheet, tally
from command import app_of
from vsf.errors import RequestError
from vsf.generation.models import hash_folder
from vsf.judges.base import Verdict
from vsf.tiny import model

PICTURES = 6


@pytest.fixture(scope="module")
def random_model(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "random"
    model.save(model.pipeline(), path)
    return path


@pytest.fixture(scope="module")
def sheets(tmp_path_factory, random_model):
    """A folder of sheets, drawn without asking the judge."""
    out = tmp_path_factory.mktemp("sheets") / "sheets"
    arguments = ["sheet", "--out", str(out), "--model", str(random_model), "--pictures", str(PICTURES)]
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(agreement, "judge", lambda image, question: pytest.fail("the judge was asked"))
        monkeypatch.setattr(agreement, "PER_SHEET", 4)
        result = CliRunner().invoke(app_of(sheet, tally), arguments)
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture
def drawn(sheets, tmp_path):
    return Path(shutil.copytree(sheets, tmp_path / "sheets"))


@pytest.fixture
def seeing(monkeypatch):
    """A judge that sees every object and no part, and asks nothing of the picture."""
    verdict = Verdict(True, True, 0.5, "a red car on snow, no wheels")
    monkeypatch.setattr(agreement, "judge", lambda image, question: verdict)


def fill(out, objects, parts):
    file = out / "labels.csv"
    with file.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    for row, thing, part in zip(rows, objects, parts, strict=True):
        row |= {"object there": thing, "part there": part}
    with file.open("w", newline="") as lines:
        writer = csv.DictWriter(lines, agreement.LABELS)
        writer.writeheader()
        writer.writerows(rows)
    return file


def count(labels, out):
    result = CliRunner().invoke(app_of(sheet, tally), ["tally", "--labels", str(labels), "--out", str(out)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_sheets_pictures_and_an_empty_table_are_drawn_and_the_judge_is_not_asked(drawn):
    assert sorted(path.name for path in drawn.glob("sheet*")) == ["sheet-1.jpg", "sheet-2.jpg"]
    assert len(list((drawn / "pictures").iterdir())) == PICTURES
    with (drawn / "labels.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [row["number"] for row in rows] == [str(number) for number in range(1, PICTURES + 1)]
    assert {row["object there"] + row["part there"] for row in rows} == {""}
    assert all(row["object"] in row["prompt"] for row in rows)
    with Image.open(drawn / "sheet-1.jpg") as image:
        assert min(image.size) >= 192


def test_half_of_the_pictures_are_guided_and_their_order_does_not_tell(drawn):
    told = json.loads((drawn / "pictures.json").read_text())["pictures"]
    guided = [picture["setting"] != "none" for picture in told]
    assert sum(guided) == PICTURES // 2
    assert guided != sorted(guided)
    assert guided != [bool(index % 2) for index in range(PICTURES)]


def test_a_table_is_never_overwritten(drawn, random_model):
    with pytest.raises(RequestError, match="another --out"):
        sheet(out=drawn, model=random_model, pictures=1, seed=0)


def test_the_tally_counts_each_answer_that_a_person_could_give(drawn, seeing, tmp_path):
    labels = fill(drawn, ["yes"] * 4 + ["no", "?"], ["no"] * 3 + ["yes", "YES ", "no"])
    result = count(labels, tmp_path / "tally.json")
    assert result.exit_code == 1
    tallied = json.loads((tmp_path / "tally.json").read_text())["agreement"]
    assert (tallied["object"]["agree"], tallied["object"]["of"]) == (4, 5)
    assert (tallied["part"]["agree"], tallied["part"]["of"]) == (4, 6)
    assert (tallied["both"]["agree"], tallied["both"]["of"]) == (8, 11)
    # Wilson's interval of 8 in 11 at 95 %, from his formula: (p + z²/2n ± z·sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n)
    z, n, p = 1.959964, 11, 8 / 11
    middle, spread = p + z * z / 2 / n, z * (p * (1 - p) / n + z * z / 4 / n / n) ** 0.5
    low, high = ((middle + sign * spread) / (1 + z * z / n) for sign in (-1, 1))
    assert (tallied["both"]["low"], tallied["both"]["high"]) == pytest.approx((low, high), abs=1e-3)
    assert "the judge saw a red car" in result.output


def test_full_agreement_ends_well_and_becomes_the_figure_of_these_weights(
    drawn, seeing, tmp_path, random_model, monkeypatch
):
    monkeypatch.setattr(agreement, "RESULTS", tmp_path / "tally.json")
    assert agreement.figure("any").value is None
    assert count(fill(drawn, ["yes"] * PICTURES, ["no"] * PICTURES), tmp_path / "tally.json").exit_code == 0
    assert agreement.figure(hash_folder(random_model)).value == 1
    assert agreement.figure("other weights").value is None


def test_where_the_judge_cannot_read_what_a_person_can_they_do_not_agree(drawn, tmp_path, monkeypatch):
    monkeypatch.setattr(agreement, "judge", lambda image, question: Verdict(None, None, None, "nothing"))
    count(fill(drawn, ["yes"] * 3 + ["no"] * 3, ["no"] * PICTURES), tmp_path / "tally.json")
    assert json.loads((tmp_path / "tally.json").read_text())["agreement"]["both"]["share"] == 0


@pytest.mark.parametrize(
    ("objects", "complaint"), [("", "expected yes"), ("maybe", "maybe"), ("?", "nothing to compare")]
)
def test_a_table_that_is_not_filled_in_is_refused(drawn, seeing, tmp_path, objects, complaint):
    with pytest.raises(RequestError, match=complaint):
        count(fill(drawn, [objects] * PICTURES, ["?"] * PICTURES), tmp_path / "tally.json")


def test_a_picture_that_was_exchanged_is_refused(drawn, seeing, tmp_path):
    labels = fill(drawn, ["yes"] * PICTURES, ["no"] * PICTURES)
    (drawn / "pictures" / "002.png").write_bytes((drawn / "pictures" / "001.png").read_bytes())
    with pytest.raises(RequestError, match=r"002\.png"):
        count(labels, tmp_path / "tally.json")


def test_without_sheets_there_is_nothing_to_tally(tmp_path):
    with pytest.raises(RequestError, match="comes first"):
        count(tmp_path / "labels.csv", tmp_path / "tally.json")
