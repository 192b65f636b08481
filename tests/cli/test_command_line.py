"""The command as a whole: help, version, lists, doctor, and what happens when something is not there."""

import json
import subprocess
import sys

import pytest
import torch

import vsf as package
from vsf.cli import COMMANDS, exactness
from vsf.guidance import METHODS, knobs

HELP = """
import sys
from vsf.cli import main
for flag in ("--help", "--version"):
    try:
        main([flag])
    except SystemExit as end:
        assert not end.code
assert not {"diffusers", "transformers", "PIL"} & set(sys.modules)
"""


def test_help_and_version_load_neither_diffusers_nor_transformers():
    run = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr


def test_version_is_that_of_the_package(vsf):
    assert vsf("--version") == (0, f"vsf {package.__version__}\n", "")


def test_help_of_everything_shows_an_example(vsf):
    for words in ([], *([name] for name in COMMANDS)):
        code, out, _ = vsf(*words, "--help")
        assert code == 0
        assert f"Example: vsf {' '.join(words)}" in out


def test_help_of_generate_has_a_flag_for_every_knob_of_every_method(vsf):
    shown = vsf("generate", "--help")[1]
    for cls in METHODS.values():
        for knob in knobs(cls):
            assert f"--{knob.name.replace('_', '-')} " in shown


def test_the_short_help_of_a_command_says_what_its_own_help_says(vsf):
    overview = vsf("--help")[1]
    for name, (_, summary) in COMMANDS.items():
        assert summary in overview
        assert summary.rstrip(".") in vsf(name, "--help")[1]


@pytest.mark.parametrize("words", [["generat"], ["list"], ["list", "methds"], ["doctor", "--jsn"]])
def test_a_command_that_does_not_exist_is_refused(vsf, words):
    code, _, err = vsf(*words)
    assert code == 2
    assert "Traceback" not in err


def test_lists_show_every_registered_name(vsf):
    for what in ("methods", "families", "models"):
        rows = json.loads(vsf("list", what, "--json")[1])
        names = [next(iter(row.values())) for row in rows]
        assert names
        table = vsf("list", what)[1]
        assert all(name in table for name in names)
    assert [row["method"] for row in json.loads(vsf("list", "methods", "--json")[1])] == list(METHODS)


@pytest.mark.parametrize("missing", [["diffusers"], ["typer"], ["typer", "rich"]])
def test_without_the_diffusers_extra_the_command_says_what_to_install(vsf, folder, monkeypatch, missing):
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.delitem(sys.modules, f"{name}.console", raising=False)
    code, _, err = vsf("generate", "a red car", "--model", folder)
    assert code == 2
    assert (
        err == f"error: {missing[0]} is not installed. The command line needs: pip install 'vsf-guidance[diffusers]'\n"
    )


def test_the_core_passes_its_self_check_here():
    for dtype in exactness.DTYPES:
        found = exactness.core_against_float64("cpu", dtype)
        assert found["passed"], found


def test_the_self_check_notices_a_core_that_is_a_little_wrong(monkeypatch):
    whole = exactness.guided_attention
    monkeypatch.setattr(exactness, "guided_attention", lambda *a: whole(*a) * (1 + 1e-4))
    assert not exactness.core_against_float64("cpu", torch.float32)["passed"]


def test_doctor_says_that_guidance_is_exact(vsf):
    code, out, _ = vsf("doctor", "--json")
    document = json.loads(out)
    assert code == 0
    assert document["exact"] is True
    assert len(document["checks"]) >= 3
    assert document["versions"]["torch"] == torch.__version__
    code, out, _ = vsf("doctor")
    assert code == 0
    assert "Guidance is exact on this install." in out


def test_doctor_says_when_guidance_is_not_exact(vsf, monkeypatch):
    whole = exactness.guided_attention
    monkeypatch.setattr(exactness, "guided_attention", lambda *a: whole(*a) * 1.1)
    code, out, _ = vsf("doctor")
    assert code == 1
    assert "Guidance is NOT exact here." in out
    assert "FAILED" in out
