"""Terminal output: progress and notes on stderr, results on stdout."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from rich.console import Console

if TYPE_CHECKING:
    from vsf.generation import Model, Progress, Request

stdout = Console()
stderr = Console(stderr=True)


def note(message: str) -> None:
    """Print one line on stderr that is not an error."""
    stderr.print(f"note: {message}", style="yellow", markup=False, highlight=False, soft_wrap=True)


def print_json(document: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> None:
    """Print one JSON document on stdout."""
    print(json.dumps(document, indent=2, ensure_ascii=False))


def load_quietly(request: Request, *, quiet: bool) -> Model:
    """Load the model behind a spinner, without the progress bars and advice of its libraries."""
    with busy(f"loading {request.model}", quiet=quiet):
        import diffusers
        import huggingface_hub
        import transformers

        from vsf.generation import load

        for library in (diffusers, transformers, huggingface_hub):
            library.utils.logging.set_verbosity_error()
        for library in (diffusers, transformers):
            library.utils.logging.disable_progress_bar()
        return load(request)


def busy(doing: str, *, quiet: bool) -> AbstractContextManager[object]:
    """Return a context that shows a spinner on stderr, unless `quiet`."""
    return nullcontext() if quiet else stderr.status(doing)


@contextmanager
def steps(images: int, *, quiet: bool) -> Iterator[Progress]:
    """Show a progress bar over all steps of all images; yields the callback that moves it."""
    from rich import progress

    columns = (
        progress.TextColumn("drawing"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn("steps"),
        progress.TimeRemainingColumn(),
    )
    is_hidden = quiet or not stderr.is_terminal
    with progress.Progress(*columns, console=stderr, transient=True, disable=is_hidden) as bar:
        task = bar.add_task("drawing", total=None)

        def move(index: int, step: int, total: int) -> None:
            bar.update(task, total=images * total, completed=index * total + step)

        yield move


def after(progress: Progress, images: int) -> Progress:
    """Return a callback that counts from a number of images that the same bar has already shown."""
    return lambda index, step, total: progress(images + index, step, total)
