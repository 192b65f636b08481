"""The commands put together; diffusers and transformers are loaded by a command that runs, not by its help."""

from __future__ import annotations

from typing import Any

import typer

import vsf
from vsf.cli import catalogue, compare, doctor, generate

COMMANDS: dict[str, Any] = {"generate": generate, "compare": compare, "list": catalogue, "doctor": doctor}


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"vsf {vsf.__version__}")
        raise typer.Exit


app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")
VERSION: Any = typer.Option(False, "--version", callback=_show_version, is_eager=True, help="Show it and exit.")


@app.callback(epilog="Example: vsf generate 'a red car on snow' --negative wheels --out car.png")
def _root(version: bool = VERSION) -> None:
    """Negative prompts that work in few-step image models."""


for name, module in COMMANDS.items():
    app.command(name, help=module.command.__doc__, epilog=f"Example: {module.EXAMPLE}")(module.command)
