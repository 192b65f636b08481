"""A blind study: what goes out tells nothing, what comes back is one more judge."""

import csv

import pytest

from support import judged_folder
from vsf.bench import study
from vsf.bench.run.rows import rows
from vsf.bench.run.scored import scored
from vsf.errors import RequestError

CHANCES = {"none": ("none", 1.0, 0.0, 0.8), "VSF": ("vsf", 0.9, 0.8, 0.8), "NAG": ("nag", 0.9, 0.5, 0.8)}


@pytest.fixture
def folder(tmp_path):
    return judged_folder.write(tmp_path / "run", CHANCES, [judged_folder.pair(index) for index in range(6)])


def fill(sheet, answer):
    with sheet.open(newline="") as stream:
        lines = list(csv.DictReader(stream))
    for number, line in enumerate(lines):
        line.update(answer(number, line))
    with sheet.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, lines[0])
        writer.writeheader()
        writer.writerows(lines)


def test_a_study_shows_every_setting_equally_often_and_names_none(folder, tmp_path):
    assert study.export(folder, tmp_path / "out", 9) == 9
    key = study.Key.model_validate_json(study.key_file(folder, tmp_path / "out").read_bytes())
    label_of = {(row.image_hash, row.pair): row.label for row in rows(folder)}
    labels = [label_of[image] for image in key.images.values()]
    assert {label: labels.count(label) for label in CHANCES} == dict.fromkeys(CHANCES, 3)
    assert labels != sorted(labels)
    told = (tmp_path / "out" / "answers.csv").read_text()
    assert not any(word in told for word in ("VSF", "NAG", "none", "scale"))
    assert sorted(file.name for file in (tmp_path / "out").iterdir())[:2] == ["0001.png", "0002.png"]
    assert not (tmp_path / "out" / "key.json").exists()


def test_answers_come_back_as_the_verdicts_of_one_more_judge(folder, tmp_path):
    study.export(folder, tmp_path / "out", 100, labels=["VSF"])

    def answer(number, line):
        if number == 0:
            return {"positive": "unreadable"}
        if number == 1:
            return {}
        return {"positive": "yes", "negative": "No ", "rest": "yes", "remark": "blue"}

    fill(tmp_path / "out" / "answers.csv", answer)
    assert study.read_answers(folder, tmp_path / "out", "anna") == 11
    scores = [score for score in scored(folder, "human:anna") if score.row.label == "VSF"]
    assert sorted(str(score.success) for score in scores) == ["False"] * 11 + ["None"]
    assert [score.negative for score in scores].count(False) == 10
    assert all(score.quality is None for score in scores)


def test_what_a_sheet_cannot_say_is_refused_by_the_picture(folder, tmp_path):
    study.export(folder, tmp_path / "out", 3)
    fill(
        tmp_path / "out" / "answers.csv", lambda number, line: {"positive": "yes", "negative": "perhaps", "rest": "no"}
    )
    with pytest.raises(RequestError, match=r'0001\.png: negative is yes or no, got "perhaps"'):
        study.read_answers(folder, tmp_path / "out", "anna")
    fill(
        tmp_path / "out" / "answers.csv",
        lambda number, line: {"picture": "9.png", "positive": "no", "negative": "no", "rest": "no"},
    )
    with pytest.raises(RequestError, match=r'has the picture "9\.png"'):
        study.read_answers(folder, tmp_path / "out", "anna")


def test_a_study_needs_a_new_folder_settings_that_exist_and_its_own_run(folder, tmp_path):
    with pytest.raises(RequestError, match='no setting "vfs"'):
        study.export(folder, tmp_path / "out", 3, labels=["vfs"])
    study.export(folder, tmp_path / "out", 3)
    with pytest.raises(RequestError, match="exists already"):
        study.export(folder, tmp_path / "out", 3)
    with pytest.raises(RequestError, match="cannot read the study"):
        study.read_answers(tmp_path, tmp_path / "out", "anna")
