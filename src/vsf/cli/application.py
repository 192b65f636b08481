"""The typer application: every command is imported only when it is called, so that the overview appears at once."""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple

import typer
from typer.core import TyperGroup

import vsf


class Command(NamedTuple):
    """The module of a command, and its line in the overview.

    The module has either a function `command` and an `EXAMPLE`, or an `app` with commands of its own.
    """

    module: str
    summary: str


COMMANDS = {
    "generate": Command("vsf.cli.generate", "Draw images, guided away from a negative prompt."),
    "compare": Command("vsf.cli.compare", "Draw the same scene with several methods, on one labelled sheet."),
    "bench": Command("vsf.cli.bench.command", "Compare methods on suites of prompts: draw, judge, search, report."),
    "list": Command("vsf.cli.list_", "List the methods, presets, model families, embedded models, suites or judges."),
    "doctor": Command(
        "vsf.cli.doctor.command",
        "Check this install or, given a model, whether it can be guided; exit 1 if a check fails.",
    ),
}


class _OnDemandGroup(TyperGroup):
    """A group whose commands are placeholders with a line of help until one is called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Replace the placeholder of a command by the command itself."""
        if args[0] in COMMANDS:
            self.commands[args[0]] = _import_command(args[0])
        return super().resolve_command(ctx, args)


def _import_command(name: str) -> Any:
    module = import_module(COMMANDS[name].module)
    group = typer.Typer(add_completion=False, rich_markup_mode="rich")
    if hasattr(module, "app"):
        group.add_typer(module.app, name=name)
    else:
        group.command(name, epilog=f"Example: {module.EXAMPLE}")(module.command)
    # typer turns a group of one command into that command, unless it has a callback.
    group.callback()(lambda: None)
    click_group: Any = typer.main.get_command(group)
    return click_group.commands[name]


def _show_version(is_requested: bool) -> None:
    if is_requested:
        typer.echo(f"vsf {vsf.__version__}")
        raise typer.Exit


app = typer.Typer(
    cls=_OnDemandGroup,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
VERSION: Any = typer.Option(
    False, "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
)


@app.callback(
    epilog="Example: vsf generate 'a red car on snow' -n wheels --within subject --scale 4 --seed 1 -o car.png"
)
def _root(version: bool = VERSION) -> None:
    """Negative prompts that work in few-step image models."""


# Placeholders, which give the overview its lines and the shell its completions.
for name, listed in COMMANDS.items():
    app.command(name, help=listed.summary)(lambda: None)
