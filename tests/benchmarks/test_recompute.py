"""The script that recomputes a report agrees with it, and notices a number that was changed."""

import subprocess
import sys
from pathlib import Path

import pytest

from support import judged_folder
from vsf.bench import report

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "recompute.py"
CHANCES = {"none": ("none", 0.99, 0.2, 0.97), "vsf": ("vsf", 0.9, 0.7, 0.9), "nag": ("nag", 0.8, 0.4, 0.9)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    judged_folder.write(folder, CHANCES, [judged_folder.pair(index) for index in range(30)], unscored=0.05)
    report.build(folder)
    return folder


def recompute(folder):
    words = [sys.executable, "-I", SCRIPT, folder, "--metric", "negative", "--reference", "vsf"]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def test_the_report_is_confirmed_without_the_package(folder):
    found = recompute(folder)
    assert found.stdout.splitlines()[0] == "3 settings, 2 tests of negative against vsf: 0 numbers differ"
    assert found.returncode == 0
    assert "import vsf" not in SCRIPT.read_text()


@pytest.mark.parametrize(("name", "what"), [("negative", "negative"), ("p_holm", "p"), ("quality_high", "an end of")])
def test_a_number_that_was_changed_is_told(folder, name, what):
    file = folder / "report" / "settings.csv"
    before = file.read_text()
    head, *lines = before.splitlines()
    cells = lines[2].split(",")
    at = head.split(",").index(name)
    cells[at] = str(float(cells[at]) * 1.5 + 0.01)
    file.write_text("\n".join([head, *lines[:2], ",".join(cells)]) + "\n")
    found = recompute(folder)
    file.write_text(before)
    assert found.returncode == 1
    assert f"nag: {what}" in found.stdout
