"""`vsf doctor`: report the installed versions, check that guidance is exact here, or inspect a model."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import torch
import typer
from rich.table import Table
from rich.text import Text

import vsf
from vsf.attention.kernels import kernel_for, name_of
from vsf.cli import console
from vsf.cli.doctor import checks, inspect_model
from vsf.cli.options import JSON_HELP, argument, takes_options
from vsf.generation import Request
from vsf.generation.models import available_gpus
from vsf.options import option

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

EXAMPLE = "vsf doctor --json"
MARKS = {True: Text("passed", "green"), False: Text("FAILED", "red")}
PACKAGES = ("torch", "diffusers", "transformers", "accelerate", "peft", "safetensors", "jaxtyping", "pillow")


@dataclass(frozen=True, kw_only=True)
class DoctorOptions:
    """The options of `vsf doctor`."""

    model: str | None = argument(
        "A diffusers folder, a hub id (its configuration is fetched, no weights), or a pipeline by its class: say "
        "whether it can be guided, and what it lacks."
    )
    json: bool = option(JSON_HELP, default=False)


@takes_options(DoctorOptions)
def command(options: DoctorOptions) -> None:
    """Check this install or, given a model, whether it can be guided; exit 1 if a check fails."""
    passed = _check_install(options.json) if options.model is None else _check_model(options.model, options.json)
    if not passed:
        raise typer.Exit(1)


def _check_install(quiet: bool) -> bool:
    """Print versions, devices and checks; return whether all checks passed."""
    versions = {"python": platform.python_version(), "vsf": vsf.__version__}
    for package in PACKAGES:
        versions[package] = _version(package)
    devices = _devices()
    results = [_run(name, check) for name, check in _checks(quiet).items()]
    is_exact = all(result["passed"] for result in results)
    if quiet:
        console.print_json({"exact": is_exact, "versions": versions, "devices": devices, "checks": results})
        return is_exact
    version_rows = [{"package": name, "version": number} for name, number in versions.items()]
    console.stdout.print(_table("versions", version_rows))
    console.stdout.print(_table("attention kernels that keep guidance fast and exact", devices))
    console.stdout.print(_table("checks", results))
    verdict = "[green]Guidance is exact on this install.[/]" if is_exact else "[red]Guidance is NOT exact here.[/]"
    console.stdout.print(verdict)
    return is_exact


def _check_model(model: str, quiet: bool) -> bool:
    """Print the facts that a model's configuration tells; return whether it can be guided."""
    inspected = inspect_model.inspect_model(model)
    if quiet:
        console.print_json([denoiser.document() for denoiser in inspected])
    else:
        for denoiser in inspected:
            _print_denoiser(denoiser)
    return not any(denoiser.missing for denoiser in inspected)


def _print_denoiser(denoiser: inspect_model.InspectedDenoiser) -> None:
    console.stdout.print(f"[bold]{denoiser.pipeline}[/], whose denoiser is {denoiser.denoiser}")
    console.stdout.print(f"family: {denoiser.family or 'none'}")
    if denoiser.layers:
        title = "attention layers that would be guided" if denoiser.family else "attention layers"
        rows = []
        for layers in denoiser.layers:
            rows.append({"layers": layers.pattern, "how many": layers.count, "processor": layers.processor})
        console.stdout.print(_table(title, rows))
    if denoiser.arguments:
        console.stdout.print(f"the denoiser is called with: {', '.join(denoiser.arguments)}")
    reason = denoiser.missing
    verdict = f"[red]It cannot be guided:[/] {reason}" if reason else "[green]It can be guided.[/]"
    console.stdout.print(verdict, soft_wrap=True)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _devices() -> list[dict[str, str]]:
    """Return a row for each usable device, with the attention kernel for each dtype."""
    rows = []
    for device in ["cpu", *available_gpus()]:
        name = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()
        row = {"device": device, "name": name}
        for dtype in checks.DTYPES:
            row[_short(dtype)] = _kernel(device, dtype)
        rows.append(row)
    return rows


def _kernel(device: str, dtype: torch.dtype) -> str:
    try:
        # The kernel depends on device, dtype and shape, so zeros will do.
        query = torch.zeros(1, 1, 16, 64, device=device, dtype=dtype)
        kernel = kernel_for(query, query, query, None)
    except (RuntimeError, TypeError) as error:  # the device lacks the dtype
        return f"none: {_reason(error)}"
    return "one call over all keys" if kernel is None else name_of(kernel)


def _checks(quiet: bool) -> dict[str, Callable[[], checks.CheckResult]]:
    """Return the checks by name; the first that needs the embedded model loads it."""

    @cache
    def pipe() -> DiffusionPipeline:
        return console.load_quietly(Request("check", device="cpu"), quiet=quiet).pipe

    checks_by_name: dict[str, Callable[[], checks.CheckResult]] = {}
    for device in ["cpu", *available_gpus()]:
        for dtype in checks.DTYPES:
            checks_by_name[f"attention on {device}, {_short(dtype)}"] = partial(
                checks.core_against_float64, device, dtype
            )
    checks_by_name["an empty negative changes nothing"] = lambda: checks.empty_negative_changes_nothing(pipe())
    checks_by_name["a negative acts, and only while it is asked to"] = lambda: checks.negative_changes_something(pipe())
    return checks_by_name


def _run(name: str, check: Callable[[], checks.CheckResult]) -> dict[str, str | bool]:
    """Run one check; one that raises has failed, with the error as its detail."""
    try:
        result = check()
    except Exception as error:  # noqa: BLE001 - whatever stops a check is what the user wants to know
        result = checks.CheckResult(False, f"cannot run: {_reason(error)}")
    return {"check": name, "passed": result.passed, "detail": result.detail}


def _reason(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _table(title: str, rows: Sequence[Mapping[str, object]]) -> Table:
    table = Table(*rows[0], title=title, title_justify="left")
    for row in rows:
        table.add_row(*map(_cell, row.values()))
    return table


def _cell(value: object) -> Text:
    # As a Text, so that rich does not read brackets in it as markup.
    return MARKS[value] if isinstance(value, bool) else Text(str(value))
