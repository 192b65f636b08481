"""The command line: `vsf generate | compare | bench | list | doctor`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from vsf.errors import VsfError

EXTRAS = {
    "diffusers": {"typer", "rich", "PIL", "diffusers", "transformers", "accelerate", "peft", "sentencepiece"},
    "bench": {"filelock", "jinja2", "matplotlib", "numpy", "openai", "optuna", "pydantic", "scipy", "tenacity"},
    "ray": {"ray"},
    "video": {"ftfy", "imageio", "imageio_ffmpeg"},
}
"""What each extra of the distribution brings."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit: 0 done, 1 a failed check, 2 something the user can put right, 130 after Ctrl-C."""
    try:
        from vsf.cli.application import app  # here, so that a missing extra is one clear line

        app(args=list(sys.argv[1:] if arguments is None else arguments), prog_name="vsf")
    except KeyboardInterrupt:
        sys.exit(130)
    except VsfError as error:
        _fail(str(error))
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        extra = next((name for name, packages in EXTRAS.items() if package in packages), None)
        if extra is None:
            raise
        _fail(f"{package} is not installed. This command needs: pip install 'vsf-guidance[{extra}]'")


def _fail(message: str) -> None:
    try:
        from rich.console import Console
        from rich.text import Text
    except ModuleNotFoundError:
        print(f"error: {message}", file=sys.stderr)
    else:
        Console(stderr=True).print(Text(f"error: {message}", style="red"), soft_wrap=True)
    sys.exit(2)
