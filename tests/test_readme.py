"""What the README shows runs, and what it points to is there."""

import re
from pathlib import Path

import pytest

from vsf.guidance import convert_reference

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
OURS, REAL, CONTROLS, WORDS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_lines_for_the_embedded_model_run_one_after_the_other(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(OURS, names)
    exec(CONTROLS, names)
    exec(WORDS, names)
    assert (tmp_path / "car.png").is_file()
    assert "guided in 6 denoiser calls" in capsys.readouterr().out


def test_the_lines_for_a_real_model_parse_and_hold_the_converted_published_setting():
    compile(REAL, "README", "exec")
    scale, offset = convert_reference(3.5, 0.1)
    assert f"scale={scale:.2f}, offset={offset:.3f}" in REAL


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)]+)\)", README))
def test_every_link_points_to_something(target):
    assert (ROOT / target).exists()


def test_it_stays_short():
    assert README.count("\n") <= 150
