"""`vsf list`: the available methods, presets, model families, embedded models, suites and judges."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from inspect import getdoc

from rich.table import Table
from rich.text import Text

from vsf import guidance, tiny
from vsf.cli import console
from vsf.cli.knob_flags import allowed_values, format_value
from vsf.cli.options import JSON_HELP, argument, takes_options
from vsf.errors import RequestError
from vsf.families import FAMILIES
from vsf.families.base.family import Family
from vsf.families.catalogue.presets import PRESETS
from vsf.options import option
from vsf.registry import Registry

EXAMPLE = "vsf list methods"

Rows = list[dict[str, str]]
"""Rows of a table, each with all columns by name."""


def _methods() -> Rows:
    rows = []
    for name, cls in guidance.METHODS.items():
        knobs = [f"{knob.name} ({allowed_values(knob)})" for knob in guidance.knobs(cls)]
        rows.append({"method": name, "what it does": _summary(cls), "knobs": "; ".join(knobs)})
    return rows


def _families() -> Rows:
    rows = []
    for name, family in FAMILIES.items():
        pipelines = [_with_release(family, pipeline) for pipeline in family.pipelines]
        rows.append(
            {
                "family": name,
                "what it is": _summary(type(family)),
                "denoisers": ", ".join(family.denoisers),
                "negatives enter": family.negatives_enter,
                "pipelines run in the tests": ", ".join(pipelines),
                "with": family.tested_weights,
            }
        )
    return rows


def _models() -> Rows:
    return [{"model": name, "what it is": text} for name, text in tiny.MODELS.items()]


def _presets() -> Rows:
    rows = []
    for family, presets in PRESETS.items():
        for preset in presets:
            rows.append(
                {
                    "family": family,
                    "preset": preset.name,
                    "method": preset.method,
                    "knobs": " ".join(f"{name}={format_value(value)}" for name, value in preset.knobs.items()),
                    "provenance": preset.provenance,
                    "source": preset.source,
                }
            )
    return rows


def _suites() -> Rows:
    from vsf.bench.suites import load as suites

    cards = suites.cards()
    rows = []
    for name in suites.names():
        pairs = suites.load(name)
        card = cards[name]
        first = f"{pairs[0].prompt}, without {pairs[0].negative}"
        facts = {"version": card.version, "licence": card.licence, "sha256": card.sha256[:12], "about": card.about}
        rows.append({"suite": name, "pairs": str(len(pairs)), **facts, "the first": first})
    return rows


def _judges() -> Rows:
    from vsf.judges.registry import JUDGES

    return [{"judge": name, "what it is": _summary(make)} for name, make in JUDGES.items()]


LISTS: Registry[Callable[[], Rows]] = Registry(
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
BRIEF = {"suites": ("suite", "pairs", "about"), "families": ("family", "what it is", "negatives enter")}
"""The columns that a terminal has room for; --json and --markdown show all."""


@dataclass(frozen=True, kw_only=True)
class ListOptions:
    """The options of `vsf list`."""

    what: str = argument(f"One of {', '.join(LISTS)}.", required=True)
    family: str | None = option("With presets: only those of this family, or embedded model.")
    json: bool = option(JSON_HELP, default=False)
    markdown: bool = option("Print a Markdown table.", default=False)


@takes_options(ListOptions)
def command(options: ListOptions) -> None:
    """List the methods, presets, model families, embedded models, suites or judges."""
    rows = LISTS[options.what]()
    if options.family is not None:
        rows = _of_family(rows, options.what, options.family)
    if options.json:
        console.print_json(rows)
    elif options.markdown:
        print(_markdown(rows))
    else:
        names = BRIEF.get(options.what, tuple(rows[0]))
        table = Table(*names)
        # Names stay in one piece, so that they can be copied.
        table.columns[0].no_wrap = True
        for row in rows:
            table.add_row(*(Text(row[name]) for name in names))
        console.stdout.print(table)


def _of_family(rows: Rows, what: str, family: str) -> Rows:
    """Select the presets of one family.

    Raises:
        RequestError: the list is not that of presets.
        UnknownNameError: there is no such family.
    """
    if what != "presets":
        raise RequestError(f"--family goes with vsf list presets, not with {what}.")
    Registry("family", PRESETS)[family]  # raises for an unknown name
    return [row for row in rows if row["family"] == family]


def _markdown(rows: Rows) -> str:
    lines = [_markdown_line(rows[0].keys()), _markdown_line(["---"] * len(rows[0]))]
    for row in rows:
        lines.append(_markdown_line(row.values()))
    return "\n".join(lines)


def _markdown_line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def _with_release(family: Family, pipeline: str) -> str:
    release = family.pipelines_since.get(pipeline)
    return f"{pipeline} (from diffusers {release})" if release else pipeline


def _summary(documented: object) -> str:
    return (getdoc(documented) or "").partition("\n")[0]
