"""Flags, help and defaults of a command come from one options dataclass."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

import pytest
import typer
from typer.testing import CliRunner

from vsf.cli.compare import CompareOptions
from vsf.cli.config_file import FLAGS_ONLY
from vsf.cli.doctor.command import DoctorOptions
from vsf.cli.generate import GenerateOptions
from vsf.cli.list_ import ListOptions
from vsf.cli.options import argument, flag, takes_options
from vsf.errors import UnknownNameError
from vsf.options import option


@dataclass(frozen=True, kw_only=True)
class Options:
    name: str | None = argument("Who.")
    times: int = option("How often.", default=3, also=("-t",))
    steps: int | None = option("Steps.")
    quiet: bool = option("Nothing.", default=False)
    words: list[str] | None = option("Words.")
    config: str | None = option("A file.")
    json: bool = option("JSON.", default=False)
    knobs: Mapping[str, object] = field(default_factory=dict)


@pytest.fixture
def run():
    """Run a command with these words; returns the options it got, or what it printed for help."""
    received = []
    app = typer.Typer()
    app.command()(takes_options(Options, [flag("scale", float, "A knob.")])(received.append))

    def invoke(*words):
        result = CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "200"})
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return received.pop() if received else result.output

    return invoke


def test_what_is_left_out_keeps_the_default_of_its_field(run):
    assert run() == Options()


def test_flags_become_fields_and_knobs_are_gathered(run):
    options = run("ann", "-t", 2, "--steps", 4, "--words", "a", "--words", "b", "--quiet", "--json", "--scale", 2)
    assert options == Options(
        name="ann", times=2, steps=4, words=["a", "b"], quiet=True, json=True, knobs={"scale": 2.0}
    )


def test_a_config_file_comes_between_flags_and_defaults(run, tmp_path):
    file = tmp_path / "run.toml"
    file.write_text('times = 5\nsteps = "many"\nscale = 1\n')
    assert run("--config", file, "--scale", 3) == Options(times=5, steps="many", config=str(file), knobs={"scale": 3.0})
    file.write_text("json = true")
    with pytest.raises(UnknownNameError, match="Known: name, times, steps, quiet, words, scale"):
        run("--config", file)


def test_the_help_shows_the_default_of_a_field_or_of_a_request(run):
    shown = " ".join(run("--help").replace("│", " ").split())
    assert "How often. (default 3)" in shown
    assert "Steps. (default 8)" in shown
    assert "Nothing. (default" not in shown


@pytest.mark.parametrize("options", [GenerateOptions, CompareOptions, DoctorOptions, ListOptions])
def test_every_field_of_a_command_is_a_flag_an_argument_or_the_knobs(options):
    undeclared = [declared.name for declared in fields(options) if not declared.metadata]
    assert undeclared == (["knobs"] if options is GenerateOptions else [])
    assert FLAGS_ONLY & {declared.name for declared in fields(options)}
