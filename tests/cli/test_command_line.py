"""The command as a whole: help, version, lists, doctor, and what happens when something is not there."""

import json
import re
import subprocess
import sys

import pytest
import torch

import vsf as package
from vsf.cli.application import COMMANDS
from vsf.cli.doctor import checks as exactness
from vsf.cli.doctor import command as doctor
from vsf.guidance import METHODS, knobs

HELP = """
import sys
from vsf.cli import main
for flag in ("--help", "--version"):
    try:
        main([flag])
    except SystemExit as end:
        assert not end.code
assert not {"torch", "diffusers", "transformers", "PIL"} & set(sys.modules)
"""


def test_the_overview_and_the_version_load_not_even_torch():
    run = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr


def test_version_is_that_of_the_package(vsf):
    assert vsf("--version") == (0, f"vsf {package.__version__}\n", "")


def test_help_of_everything_shows_an_example(vsf):
    for words in ([], *([name] for name in COMMANDS if name != "bench")):
        code, out, _ = vsf(*words, "--help")
        assert code == 0
        assert f"Example: vsf {' '.join(words)}" in out


def test_help_of_generate_has_a_flag_for_every_knob_of_every_method(vsf):
    shown = vsf("generate", "--help")[1]
    for cls in METHODS.values():
        for knob in knobs(cls):
            assert f"--{knob.name.replace('_', '-')} " in shown


def test_the_overview_has_for_every_command_the_line_that_its_own_help_has(vsf):
    overview = vsf("--help")[1]
    for name, listed in COMMANDS.items():
        assert re.search(rf"{name} +{re.escape(listed.summary[:40])}", overview)
        assert listed.summary in " ".join(vsf(name, "--help")[1].split())


def test_a_misspelt_command_is_answered_with_the_right_one(vsf):
    code, _, err = vsf("generat", "a red car")
    assert code == 2
    assert "Did you mean 'generate'" in err


def test_python_dash_m_runs_the_command():
    words = [sys.executable, "-m", "vsf", "--version"]
    run = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert (run.returncode, run.stdout) == (0, f"vsf {package.__version__}\n")


class Interrupting:
    """An import hook during whose work Ctrl-C is pressed."""

    def __init__(self, module):
        self.module = module

    def find_spec(self, name, path=None, target=None):
        if name == self.module:
            raise KeyboardInterrupt


@pytest.mark.parametrize("module", ["vsf.cli.application", "diffusers"])
def test_an_interrupt_while_packages_are_imported_is_exit_130_without_a_traceback(vsf, folder, monkeypatch, module):
    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupting(module), *sys.meta_path])
    code, _, err = vsf("generate", "a red car", "--model", folder)
    assert code == 130
    assert "Traceback" not in err


INTERRUPTED = """
import sys
class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupting())
from vsf.cli import main
main(["generate", "a red car"])
"""


def test_an_interrupt_while_torch_is_imported_is_exit_130_without_a_traceback():
    run = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=120, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (130, "", "")


def test_the_ranges_of_knobs_read_the_same_in_the_list_and_in_the_help(vsf):
    listed = vsf("list", "methods", "--json")[1]
    shown = " ".join(re.sub(r"[│\s]+", " ", vsf("generate", "--help")[1]).split())
    for text in ("0 to 10, or auto; default 1.0", "paper, reference; default paper", "false, true; default false"):
        assert text in listed
        assert text in shown


@pytest.mark.parametrize("words", [["generat"], ["list"], ["list", "methds"], ["doctor", "--jsn"]])
def test_a_command_that_does_not_exist_is_refused(vsf, words):
    code, _, err = vsf(*words)
    assert code == 2
    assert "Traceback" not in err


def test_lists_show_every_registered_name(vsf):
    for what in ("methods", "families", "models", "presets"):
        rows = json.loads(vsf("list", what, "--json")[1])
        names = [next(iter(row.values())) for row in rows]
        assert names
        table = vsf("list", what)[1]
        assert all(name in table for name in names)
    assert [row["method"] for row in json.loads(vsf("list", "methods", "--json")[1])] == list(METHODS)


def test_presets_are_listed_with_where_they_come_from(vsf):
    rows = json.loads(vsf("list", "presets", "--json")[1])
    assert {row["provenance"] for row in rows} == {"paper", "converted", "tuned on tiny", "untested"}
    (strong,) = [row for row in rows if (row["family"], row["preset"], row["method"]) == ("sd3", "strong", "vsf")]
    assert strong["knobs"] == "scale=1.161 offset=-0.598"
    (nag,) = [row for row in rows if (row["family"], row["preset"], row["method"]) == ("sd3", "strong", "nag")]
    assert (nag["knobs"], nag["provenance"]) == ("scale=9.0 tau=5.0 alpha=0.5", "paper")


def test_a_list_can_be_a_markdown_table(vsf):
    for what in ("methods", "presets"):
        rows = json.loads(vsf("list", what, "--json")[1])
        code, out, _ = vsf("list", what, "--markdown")
        head, rule, *lines = out.splitlines()
        assert code == 0
        assert head == "| " + " | ".join(rows[0]) + " |"
        assert set(rule) <= set("|- ")
        assert len(lines) == len(rows)
        assert {line.replace(r"\|", "").count("|") for line in (head, rule, *lines)} == {len(rows[0]) + 1}


@pytest.mark.parametrize("missing", [["diffusers"], ["typer"], ["typer", "rich"]])
def test_without_the_diffusers_extra_the_command_says_what_to_install(vsf, folder, monkeypatch, missing):
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.delitem(sys.modules, f"{name}.console", raising=False)
        if name == "typer":
            monkeypatch.delitem(sys.modules, "vsf.cli.application")
    code, _, err = vsf("generate", "a red car", "--model", folder)
    assert code == 2
    assert err == f"error: {missing[0]} is not installed. This command needs: pip install 'vsf-guidance[diffusers]'\n"


def test_the_core_passes_its_self_check_here():
    for dtype in exactness.DTYPES:
        found = exactness.core_against_float64("cpu", dtype)
        assert found.passed, found


def test_the_self_check_notices_a_core_that_is_a_little_wrong(monkeypatch):
    whole = exactness.guided_attention
    monkeypatch.setattr(exactness, "guided_attention", lambda *a: whole(*a) * (1 + 1e-4))
    assert not exactness.core_against_float64("cpu", torch.float32).passed


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


def test_doctor_shows_everything_else_when_a_check_cannot_run(vsf, monkeypatch):
    def no_model(*_, **__):
        raise OSError("the disk is gone\nand more")

    def no_kernel(*_):
        raise RuntimeError("no such dtype here")

    monkeypatch.setattr(doctor.console, "load_quietly", no_model)
    monkeypatch.setattr(doctor, "kernel_for", no_kernel)
    code, out, _ = vsf("doctor", "--json")
    document = json.loads(out)
    assert (code, document["exact"]) == (1, False)
    assert document["versions"]["torch"] == torch.__version__
    assert document["devices"][0]["float32"] == "none: no such dtype here"
    assert [check["passed"] for check in document["checks"][:3]] == [True, True, True]
    stopped = [check for check in document["checks"] if not check["passed"]]
    assert len(stopped) == 2
    assert {check["detail"] for check in stopped} == {"cannot run: the disk is gone"}
    code, out, _ = vsf("doctor")
    assert code == 1
    assert out.count("the disk is gone") == 2
    assert "jaxtyping" in out
