"""Run a script of this folder as a command with flags, a progress bar and one-line errors."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer
from rich.progress import Progress

from vsf.errors import VsfError


def app_of(*commands: Callable[..., None], text: str | None = None) -> typer.Typer:
    """Make an app of one command, or of several subcommands under a help text."""
    has_subcommands = len(commands) > 1
    app = typer.Typer(help=text, no_args_is_help=has_subcommands, add_completion=False, pretty_exceptions_enable=False)
    for command in commands:
        app.command()(command)
    return app


@contextmanager
def progress_of(what: str, total: int) -> Iterator[Callable[[], None]]:
    """Show how many of `total` items are done; yields a function to call after each.

    (`rich.progress.track` would remove its bar only when the garbage collector ends its iterator after an exception.)
    """
    with Progress(transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda: progress.advance(task)


def run(app: typer.Typer) -> None:
    """Run an app; an error of this package becomes one line on stderr and exit code 2."""
    try:
        app()
    except VsfError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)
