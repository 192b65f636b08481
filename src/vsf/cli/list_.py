"""`vsf list`: the methods, their presets, the model families, embedded models, suites and judges there are."""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, getdoc
from typing import Any

import typer
from rich.table import Table
from rich.text import Text

from vsf import guidance, tiny
from vsf.cli import console
from vsf.cli.options import JSON, MARKDOWN, allowed, flag, spelled, takes
from vsf.errors import RequestError
from vsf.families import FAMILIES
from vsf.families.base.family import Family
from vsf.families.catalogue.presets import PRESETS
from vsf.registry import Registry

EXAMPLE = "vsf list methods"


def _methods() -> list[dict[str, str]]:
    return [
        {"method": name, "what it does": _summary(cls), "knobs": "; ".join(map(_shown, guidance.knobs(cls)))}
        for name, cls in guidance.METHODS.items()
    ]


def _families() -> list[dict[str, str]]:
    return [
        {
            "family": name,
            "what it is": _summary(type(family)),
            "denoisers": ", ".join(family.denoisers),
            "negatives enter": family.negatives_enter,
            "pipelines run in the tests": ", ".join(_dated(family, pipeline) for pipeline in family.pipelines),
            "with": family.tested_weights,
        }
        for name, family in FAMILIES.items()
    ]


def _models() -> list[dict[str, str]]:
    return [{"model": name, "what it is": text} for name, text in tiny.MODELS.items()]


def _presets() -> list[dict[str, str]]:
    return [
        {
            "family": family,
            "preset": preset.name,
            "method": preset.method,
            "knobs": " ".join(f"{name}={spelled(value)}" for name, value in preset.knobs.items()),
            "provenance": preset.provenance,
            "source": preset.source,
        }
        for family, presets in PRESETS.items()
        for preset in presets
    ]


def _suites() -> list[dict[str, str]]:
    from vsf.bench.suites import load as suites

    loaded = {name: suites.load(name) for name in suites.names()}
    return [
        {"suite": name, "pairs": str(len(pairs)), "the first": f"{pairs[0].prompt}, without {pairs[0].negative}"}
        for name, pairs in loaded.items()
    ]


def _judges() -> list[dict[str, str]]:
    from vsf.judges.registry import JUDGES

    return [{"judge": name, "what it is": _summary(make)} for name, make in JUDGES.items()]


KINDS: Registry[Callable[[], list[dict[str, str]]]] = Registry(
    "list",
    {
        "methods": _methods,
        "families": _families,
        "models": _models,
        "presets": _presets,
        "suites": _suites,
        "judges": _judges,
    },
)
BRIEF = {"families": ("family", "what it is", "negatives enter")}
"""What a terminal has room for; the rest is for --json and --markdown."""
WHAT = Parameter(
    "what", Parameter.KEYWORD_ONLY, default=typer.Argument(help=f"One of {', '.join(KINDS)}."), annotation=str
)


FAMILY = flag("family", str, "With presets: only those of this family, or embedded model.")


@takes([WHAT, FAMILY, JSON, MARKDOWN])
def command(**flags: Any) -> None:
    """List the methods, presets, model families, embedded models, suites or judges."""
    rows = KINDS[flags["what"]]()
    if flags["family"] is not None:
        rows = _of_family(rows, flags["what"], flags["family"])
    if flags["json"]:
        console.print_json(rows)
    elif flags["markdown"]:
        print(_markdown(rows))
    else:
        names = BRIEF.get(flags["what"], tuple(rows[0]))
        table = Table(*names)
        table.columns[0].no_wrap = True
        for row in rows:
            table.add_row(*(Text(row[name]) for name in names))
        console.stdout.print(table)


def _of_family(rows: list[dict[str, str]], what: str, family: str) -> list[dict[str, str]]:
    """Keep the presets of one family. Raises RequestError for another list, and UnknownNameError."""
    if what != "presets":
        raise RequestError(f"--family goes with vsf list presets, not with {what}.")
    Registry("family", PRESETS)[family]
    return [row for row in rows if row["family"] == family]


def _markdown(rows: list[dict[str, str]]) -> str:
    lines = [[*rows[0]], ["---"] * len(rows[0]), *([*row.values()] for row in rows)]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)


def _dated(family: Family, pipeline: str) -> str:
    release = family.pipelines_since.get(pipeline)
    return f"{pipeline} (from diffusers {release})" if release else pipeline


def _summary(documented: object) -> str:
    return (getdoc(documented) or "").partition("\n")[0]


def _shown(knob: guidance.Knob) -> str:
    return f"{knob.name} ({allowed(knob)})"
