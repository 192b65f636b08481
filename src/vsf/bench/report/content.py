"""What a report says, as numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from vsf.bench.run.rows import Score
from vsf.bench.stats.bootstrap import Interval, interval
from vsf.bench.stats.paired import Comparison, compare, holm
from vsf.bench.stats.tables import METRICS, Column, Table, by_label, column, curve, curves, per_pair
from vsf.bench.stats.tradeoff import Mixture, blend, frontier, match, points
from vsf.bench.suites.load import Pair
from vsf.errors import RequestError


@dataclass(frozen=True)
class Asked:
    """What the report was asked for; see `build`."""

    kept: float
    reference: str
    matched_on_dev: bool


@dataclass(frozen=True)
class Scores:
    """The three scores with their intervals; None where not one image has the score."""

    positive: Interval | None
    negative: Interval | None
    quality: Interval | None


@dataclass(frozen=True)
class Setting:
    """One line of the table of settings. seconds: median per image."""

    label: str
    method: str
    strength: float | None
    images: int
    unscored: int
    scores: Scores
    seconds: float


@dataclass(frozen=True)
class Against:
    """The reference minus this one in the negative score; `p` is corrected for all comparisons of the same table."""

    difference: Interval
    p: float
    comparison: Comparison


@dataclass(frozen=True)
class Matched:
    """A curve where it keeps what was asked; without `mixture` it never keeps as much."""

    curve: str
    mixture: Mixture | None
    scores: Scores | None
    against: Against | None


@dataclass(frozen=True)
class Group:
    """The scores of the pairs of one kind, or about one object, by setting."""

    by: str
    name: str
    pairs: int
    scores: Mapping[str, tuple[float | None, float | None]]


@dataclass(frozen=True)
class Content:
    """Everything but pictures and cost.

    fixed: the settings that no sweep wrote, compared as they are. shown: per curve, the setting that stands for it.
    """

    asked: Asked
    tables: Mapping[str, Table]
    settings: Sequence[Setting]
    fixed: Mapping[str, Against | None]
    fixed_reference: str
    matched: Sequence[Matched]
    matched_reference: str
    shown: Mapping[str, str]
    groups: Sequence[Group]
    pairs: int
    seeds: int


def gather(scores: Sequence[Score], dev: Sequence[Score], pairs: Mapping[str, Pair], asked: Asked) -> Content:
    """What the report says; raises RequestError for an unknown reference, or a curve that dev rows lack."""
    tables, dev_tables = by_label(scores), by_label(dev)
    methods = {score.label: score.method for score in scores}
    fixed = {label: column(tables[label], "negative") for label in tables if curve(label) == label}
    fixed_reference = _reference(asked.reference, {label: methods[label] for label in fixed}, methods)
    lines = curves(list(tables))
    mixtures = _frozen(lines, dev_tables, asked.kept)
    reachable = {name: methods[lines[name][0]] for name, mixture in mixtures.items() if mixture is not None}
    matched_reference = _reference(asked.reference, reachable, methods)
    shown = {name: _stand_in(mixtures[name], tables, labels) for name, labels in lines.items()}
    return Content(
        asked=asked,
        tables=tables,
        settings=[_setting(label, table) for label, table in tables.items()],
        fixed=against(fixed_reference, fixed),
        fixed_reference=fixed_reference,
        matched=_matched(tables, mixtures, matched_reference),
        matched_reference=matched_reference,
        shown=shown,
        groups=_groups(tables, pairs, list(shown.values())),
        pairs=len({score.pair for score in scores}),
        seeds=len({score.seed for score in scores}),
    )


def against(reference: str, columns: Mapping[str, Column]) -> dict[str, Against | None]:
    """The reference compared with every other column, Holm-corrected over all of them.

    None for the reference itself, for a column that shares no scored image with it, and without a reference.
    """
    if reference not in columns:
        return dict.fromkeys(columns)
    found = {name: compare(columns[reference], values) for name, values in columns.items() if name != reference}
    tested = {name: done.test.p for name, done in found.items() if done.test is not None}
    corrected = dict(zip(tested, holm(list(tested.values())), strict=True))
    result: dict[str, Against | None] = {}
    for name in columns:
        spread = interval(found[name].per_pair) if name in corrected else None
        result[name] = Against(spread, corrected[name], found[name]) if spread is not None else None
    return result


def _reference(asked: str, candidates: Mapping[str, str], known: Mapping[str, str]) -> str:
    """The candidate that the others are compared with; empty when there is none."""
    if asked and asked not in candidates and asked not in known and asked not in {curve(label) for label in known}:
        raise RequestError(f'no setting is called "{asked}"; there are {", ".join(known)}.')
    if asked in candidates:
        return asked
    return next((label for label, method in candidates.items() if method == "vsf"), "")


def _frozen(lines: Mapping[str, Sequence[str]], dev: Mapping[str, Table], kept: float) -> dict[str, Mixture | None]:
    """Where on dev prompts each curve keeps what was asked, from the settings that both folders have."""
    mixtures = {}
    for name, labels in lines.items():
        if not (both := [label for label in labels if label in dev]):
            raise RequestError(f'the dev rows have no setting of "{name}": run it on the dev prompts, too.')
        mixtures[name] = match(points(dev, both), kept)
    return mixtures


def _matched(tables: Mapping[str, Table], mixtures: Mapping[str, Mixture | None], reference: str) -> list[Matched]:
    reachable = {name: mixture for name, mixture in mixtures.items() if mixture is not None}
    negatives = {name: blend(tables, mixture, "negative") for name, mixture in reachable.items()}
    compared = against(reference, negatives)
    lines = []
    for name, mixture in mixtures.items():
        scores = None if mixture is None else _scores([blend(tables, mixture, metric) for metric in METRICS])
        lines.append(Matched(name, mixture, scores, compared.get(name)))
    return lines


def _setting(label: str, table: Table) -> Setting:
    rows = list(table.values())
    return Setting(
        label=label,
        method=rows[0].method,
        strength=rows[0].strength,
        images=len(rows),
        unscored=sum(None in (row.positive, row.negative, row.quality) for row in rows),
        scores=_scores([column(table, metric) for metric in METRICS]),
        seconds=median(row.seconds for row in rows),
    )


def _scores(columns: Sequence[Column]) -> Scores:
    return Scores(*(interval(list(per_pair(values).values())) for values in columns))


def _stand_in(mixture: Mixture | None, tables: Mapping[str, Table], labels: Sequence[str]) -> str:
    """The setting to show for a curve: the heavier one of its mixture, or else the one that keeps most."""
    if mixture is not None:
        return max(mixture.weights, key=mixture.weights.__getitem__)
    front = frontier(points(tables, labels))
    return front[0].label if front else labels[0]


def _groups(tables: Mapping[str, Table], pairs: Mapping[str, Pair], labels: Sequence[str]) -> list[Group]:
    """Scores by the kind of pair, then by its object; a suite that tells neither has no groups."""
    groups = []
    for by in ("kind", "object"):
        members: dict[str, set[str]] = {}
        for pair in pairs.values():
            if name := pair.about.get(by):
                members.setdefault(name, set()).add(pair.id)
        groups += [Group(by, name, len(ids), _means(tables, ids, labels)) for name, ids in sorted(members.items())]
    return groups


def _means(
    tables: Mapping[str, Table], ids: set[str], labels: Sequence[str]
) -> dict[str, tuple[float | None, float | None]]:
    """Positive and negative score of each setting over these pairs."""
    parts = {label: {key: row for key, row in tables[label].items() if key[0] in ids} for label in labels}
    return {label: (_mean(column(part, "positive")), _mean(column(part, "negative"))) for label, part in parts.items()}


def _mean(values: Column) -> float | None:
    means = per_pair(values).values()
    return sum(means) / len(means) if means else None
