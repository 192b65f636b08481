"""The command line: `vsf generate | compare | list | doctor`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import vsf
from vsf.errors import VsfError

if TYPE_CHECKING:
    from typer import Typer

COMMANDS = {
    "generate": ("vsf.cli.generate", "Draw images, guided away from a negative prompt."),
    "compare": ("vsf.cli.compare", "Draw the same scene with several methods, on one labelled sheet."),
    "list": ("vsf.cli.catalogue", "List the methods, model families or embedded models."),
    "doctor": ("vsf.cli.doctor", "Say what is installed, and whether guidance is exact here."),
}
EXTRA = {"typer", "rich", "PIL", "diffusers", "transformers", "accelerate", "peft", "sentencepiece"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit: 0 done, 1 a failed check, 2 something the user can put right, 130 after Ctrl-C."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        _application(arguments)(args=list(arguments), prog_name="vsf")
    except KeyboardInterrupt:
        sys.exit(130)
    except VsfError as error:
        _fail(str(error))
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRA:
            raise
        _fail(f"{package} is not installed. The command line needs: pip install 'vsf-guidance[diffusers]'")


def _application(arguments: Sequence[str]) -> Typer:
    """The commands; only the one about to run is imported, because the others would load torch for their help alone."""
    import typer

    app = typer.Typer(
        no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich"
    )
    app.callback(epilog="Example: vsf generate 'a red car on snow' --negative wheels --out car.png")(_root())
    asked = next((word for word in arguments if not word.startswith("-")), None)
    for name, (module, summary) in COMMANDS.items():
        if name == asked:
            loaded = import_module(module)
            app.command(name, help=loaded.command.__doc__, epilog=f"Example: {loaded.EXAMPLE}")(loaded.command)
        else:
            app.command(name, help=summary)(_absent)
    return app


def _absent() -> None:
    raise AssertionError("a command that was not asked for cannot run")


def _root() -> Callable[..., None]:
    import typer

    def show(asked: bool) -> None:
        if asked:
            typer.echo(f"vsf {vsf.__version__}")
            raise typer.Exit

    option: Any = typer.Option(False, "--version", callback=show, is_eager=True, help="Show the version and exit.")

    def root(version: bool = option) -> None:
        """Negative prompts that work in few-step image models."""

    return root


def _fail(message: str) -> None:
    try:
        from rich.console import Console
        from rich.text import Text
    except ModuleNotFoundError:
        print(f"error: {message}", file=sys.stderr)
    else:
        Console(stderr=True).print(Text(f"error: {message}", style="red"), soft_wrap=True)
    sys.exit(2)
