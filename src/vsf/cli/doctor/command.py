"""`vsf doctor`: what is installed, whether guidance is exact on this machine, and whether a model can be guided."""

from __future__ import annotations

import platform
from collections.abc import Callable
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from inspect import Parameter
from typing import Any

import torch
import typer
from rich.table import Table
from rich.text import Text

import vsf
from vsf.attention.kernels import kernel_for, name_of
from vsf.cli import console
from vsf.cli.doctor import checks as exactness
from vsf.cli.doctor import inspect_model as recognition
from vsf.cli.options import JSON, takes
from vsf.generation import Request

EXAMPLE = "vsf doctor --json"
MARKS = {True: Text("passed", "green"), False: Text("FAILED", "red")}
MODEL = Parameter(
    "model",
    Parameter.KEYWORD_ONLY,
    default=typer.Argument(
        None,
        help="A diffusers folder, a hub id (its configuration is fetched, no weights), or a pipeline by its class: say "
        "whether it can be guided, and what it lacks.",
    ),
    annotation=str | None,
)
PACKAGES = ("torch", "diffusers", "transformers", "accelerate", "peft", "safetensors", "jaxtyping", "pillow")


@takes([MODEL, JSON])
def command(**flags: Any) -> None:
    """Say what is installed, and whether guidance is exact here, or a model can be guided; exit 1 if it is not."""
    quiet = bool(flags["json"])
    if flags["model"] is not None:
        _recognise(flags["model"], quiet)
        return
    versions = {"python": platform.python_version(), "vsf": vsf.__version__} | {
        name: _version(name) for name in PACKAGES
    }
    devices = _devices()
    checks = [_run(name, check) for name, check in _checks(quiet).items()]
    exact = all(check["passed"] for check in checks)
    if quiet:
        console.print_json({"exact": exact, "versions": versions, "devices": devices, "checks": checks})
    else:
        console.stdout.print(_table("versions", [{"package": name, "version": it} for name, it in versions.items()]))
        console.stdout.print(_table("attention kernels that keep guidance fast and exact", devices))
        console.stdout.print(_table("checks", checks))
        verdict = "[green]Guidance is exact on this install.[/]" if exact else "[red]Guidance is NOT exact here.[/]"
        console.stdout.print(verdict)
    if not exact:
        raise typer.Exit(1)


def _recognise(model: str, quiet: bool) -> None:
    """Say what a model is to us; its weights are not loaded."""
    found = recognition.recognise(model)
    if quiet:
        console.print_json([each.document() for each in found])
    for each in [] if quiet else found:
        console.stdout.print(f"[bold]{each.pipeline}[/], whose denoiser is {each.denoiser}")
        console.stdout.print(f"family: {each.family or 'none'}")
        if each.layers:
            title = "attention layers that would be guided" if each.family else "attention layers"
            rows = [
                {"layers": layers.pattern, "how many": layers.count, "processor": layers.processor}
                for layers in each.layers
            ]
            console.stdout.print(_table(title, rows))
        if each.arguments:
            console.stdout.print(f"the denoiser is called with: {', '.join(each.arguments)}")
        verdict = f"[red]It cannot be guided:[/] {each.missing}" if each.missing else "[green]It can be guided.[/]"
        console.stdout.print(verdict, soft_wrap=True)
    if any(each.missing for each in found):
        raise typer.Exit(1)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _devices() -> list[dict[str, str]]:
    """Each usable device with the kernel that serves each dtype there."""
    rows = []
    for device in exactness.devices():
        name = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()
        kernels = {_short(dtype): _kernel(device, dtype) for dtype in exactness.DTYPES}
        rows.append({"device": device, "name": name, **kernels})
    return rows


def _kernel(device: str, dtype: torch.dtype) -> str:
    try:
        query = torch.zeros(1, 1, 16, 64, device=device, dtype=dtype)
        kernel = kernel_for(query, query, query, None)
    except (RuntimeError, TypeError) as error:  # a dtype that the device has not
        return f"none: {_reason(error)}"
    return "one call over all keys" if kernel is None else name_of(kernel)


def _checks(quiet: bool) -> dict[str, Callable[[], exactness.Finding]]:
    """The checks by name; the embedded model is loaded by the first that needs it."""

    @cache
    def pipe() -> Any:
        return console.load_quietly(Request("check", device="cpu"), quiet=quiet).pipe

    core: dict[str, Callable[[], exactness.Finding]] = {
        f"attention on {device}, {_short(dtype)}": partial(exactness.core_against_float64, device, dtype)
        for device in exactness.devices()
        for dtype in exactness.DTYPES
    }
    return core | {
        "an empty negative changes nothing": lambda: exactness.empty_negative_changes_nothing(pipe()),
        "a negative acts, and only while it is asked to": lambda: exactness.negative_changes_something(pipe()),
    }


def _run(name: str, check: Callable[[], exactness.Finding]) -> dict[str, Any]:
    """One row; a check that cannot run has failed, and the reason is its finding."""
    try:
        passed, detail = check()
    except Exception as error:  # noqa: BLE001 - whatever stops a check is what the doctor is asked about
        passed, detail = False, f"cannot run: {_reason(error)}"
    return {"check": name, "passed": passed, "detail": detail}


def _reason(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _table(title: str, rows: list[dict[str, Any]]) -> Table:
    table = Table(*rows[0], title=title, title_justify="left")
    for row in rows:
        table.add_row(*(MARKS[cell] if isinstance(cell, bool) else Text(str(cell)) for cell in row.values()))
    return table
