"""The command line: `vsf generate | compare | bench | list | doctor`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from vsf.errors import VsfError

EXTRAS = {
    "diffusers": {"typer", "rich", "PIL", "diffusers", "transformers", "accelerate", "peft", "sentencepiece"},
    "bench": {"filelock", "jinja2", "matplotlib", "numpy", "openai", "pydantic", "scipy", "tenacity"},
    "ray": {"ray"},
    "video": {"ftfy", "imageio", "imageio_ffmpeg"},
}
"""The packages that each extra of the distribution installs."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit.

    The exit code is 0 on success, 1 for a failed check, 2 for an error that the user can fix, and 130 after Ctrl-C.

    Args:
        arguments: the words after `vsf`; those of the process if not given.
    """
    try:
        # Imported here, so that a missing extra is reported in one line.
        from vsf.cli.application import app

        app(args=list(sys.argv[1:] if arguments is None else arguments), prog_name="vsf")
    except KeyboardInterrupt:
        sys.exit(130)
    except VsfError as error:
        _fail(str(error))
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        extra = next((name for name, packages in EXTRAS.items() if package in packages), None)
        # Not one of ours: the traceback tells more than a hint that is wrong.
        if extra is None:
            raise
        _fail(f"{package} is not installed. This command needs: pip install 'vsf-guidance[{extra}]'")


def _fail(message: str) -> None:
    """Print an error on stderr, in red if rich is installed, and exit with 2."""
    try:
        from rich.console import Console
        from rich.text import Text
    except ModuleNotFoundError:
        print(f"error: {message}", file=sys.stderr)
    else:
        Console(stderr=True).print(Text(f"error: {message}", style="red"), soft_wrap=True)
    sys.exit(2)
