"""The numbers of a report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from statistics import median
from types import MappingProxyType

from vsf.bench.run.rows import Score
from vsf.bench.stats.agreement import Agreement, agreement
from vsf.bench.stats.bootstrap import Interval, interval
from vsf.bench.stats.paired import Comparison, compare, holm
from vsf.bench.stats.tables import METRICS, Column, Metric, Table, by_label, column, curves, exact_mean, per_pair
from vsf.bench.stats.tradeoff import Mixture, blend, frontier, hypervolume, match, points
from vsf.bench.suites.load import Pair
from vsf.errors import RequestError

SIGNIFICANT = 0.05  # the corrected p below which a difference is a conclusion


@dataclass(frozen=True)
class ReportOptions:
    """The choices behind a report.

    Attributes:
        kept: The positive score at which methods are compared.
        reference: The setting or curve that the others are compared with; "" for the first of value sign flip.
        matched_on_dev: Whether strengths are matched on dev prompts, not on the rows of the report.
        headline: The metric that settings are compared by: full success, or the negative score where no judge told
            success.
    """

    kept: float
    reference: str
    matched_on_dev: bool
    headline: Metric = "negative"


@dataclass(frozen=True)
class Scores:
    """The score of each metric with its interval; None if not one image has the score."""

    success: Interval | None
    positive: Interval | None
    negative: Interval | None
    damage: Interval | None
    quality: Interval | None
    change: Interval | None
    harmless: Interval | None


@dataclass(frozen=True)
class SettingSummary:
    """A line of the table of settings.

    Attributes:
        label: Its label.
        method: Its method.
        strength: The swept number, if it is a point of a curve.
        images: Number of images.
        unscored: Those of them that the judge did not answer about.
        unreadable: Those in which the judge recognises nothing.
        scores: Its scores.
        seconds: Median per image.
    """

    label: str
    method: str
    strength: float | None
    images: int
    unscored: int
    unreadable: int
    scores: Scores
    seconds: float


@dataclass(frozen=True)
class Against:
    """A comparison of the reference with another setting or curve.

    Attributes:
        difference: Score of the reference minus that of the other.
        p: Of the difference, corrected for all comparisons of the same table.
        comparison: The tests in full.
    """

    difference: Interval
    p: float
    comparison: Comparison


@dataclass(frozen=True)
class Matched:
    """A curve at the positive score of the report; without a `mixture` it never keeps as much.

    Attributes:
        curve: Its name.
        hypervolume: The share of all pairs of positive and negative score that some setting of the curve beats.
        images: Images with a score at the matched point.
    """

    curve: str
    hypervolume: float
    images: int
    mixture: Mixture | None
    scores: Scores | None
    against: Against | None


@dataclass(frozen=True)
class Group:
    """Positive and negative score, by setting, of the pairs of one kind or about one object."""

    by: str
    name: str
    pairs: int
    scores: Mapping[str, tuple[float | None, float | None]]


@dataclass(frozen=True)
class Answer:
    """The result in short: the guided setting with the best headline score, and the next best.

    Attributes:
        best: Label of the best setting.
        score: Its headline score.
        next: Label of the next best; "" if there is none.
        against: The best compared with the next best; None if there is none.
    """

    best: str
    score: Interval
    next: str = ""
    against: Against | None = None


@dataclass(frozen=True)
class OtherJudge:
    """The same rows under another judge.

    Attributes:
        name: Of the judge.
        agreement: With the report's own judge.
        scores: Headline score by setting.
        fixed: Comparisons of the reference with each setting, as `Content.fixed`.
    """

    name: str
    agreement: Sequence[Agreement]
    scores: Mapping[str, Interval | None]
    fixed: Mapping[str, Against | None]


@dataclass(frozen=True)
class Content:
    """Everything in a report except images and costs.

    Attributes:
        options: The choices behind it.
        answer: The result in short; None if no guided setting has a headline score.
        others: The same rows under other judges.
        tables: Scores by setting.
        settings: A line for each setting.
        fixed: Settings that no sweep wrote, compared as they are.
        fixed_reference: The setting that these are compared with; "" if there is none.
        matched: A line for each curve.
        matched_reference: The curve that these are compared with; "" if there is none.
        shown: The label of the setting that represents each curve.
        groups: Scores by kind of pair, and by object.
        pairs: Number of pairs.
        seeds: Number of seeds.
        students: Number of runs that the report joins.
    """

    options: ReportOptions
    answer: Answer | None
    others: Sequence[OtherJudge]
    tables: Mapping[str, Table]
    settings: Sequence[SettingSummary]
    fixed: Mapping[str, Against | None]
    fixed_reference: str
    matched: Sequence[Matched]
    matched_reference: str
    shown: Mapping[str, str]
    groups: Sequence[Group]
    pairs: int
    seeds: int
    students: int


def gather(
    scores: Sequence[Score],
    dev: Sequence[Score],
    pairs: Mapping[str, Pair],
    options: ReportOptions,
    others: Mapping[str, Sequence[Score]] = MappingProxyType({}),
) -> Content:
    """Compute the numbers of a report.

    Args:
        scores: Of the test prompts.
        dev: Of the prompts on which strengths are matched.
        pairs: By id.
        options: The choices behind the report.
        others: The scores of the same rows under other judges, by name.

    Raises:
        RequestError: The reference is unknown, or a curve has no dev rows.
    """
    tables = by_label(scores)
    dev_tables = by_label(dev)
    methods = {}
    pair_ids = set()
    seeds = set()
    for score in scores:
        methods[score.row.label] = score.row.method
        pair_ids.add(score.row.pair)
        seeds.add(score.row.seed)
    fixed = {}
    method_of_fixed = {}
    alone = _alone(tables)
    for label, table in tables.items():
        if label in alone:
            fixed[label] = column(table, options.headline)
            method_of_fixed[label] = methods[label]
    fixed_reference = _reference(options.reference, method_of_fixed, methods)
    labels_of_curve = curves(list(tables))
    mixtures = _match_on(dev_tables, labels_of_curve, options.kept)
    method_of_curve = {}
    shown = {}
    for name, mixture in mixtures.items():
        labels = labels_of_curve[name]
        if mixture is not None:
            method_of_curve[name] = methods[labels[0]]
        shown[name] = _representative(mixture, tables, labels)
    matched_reference = _reference(options.reference, method_of_curve, methods)
    return Content(
        options=options,
        answer=_answer(tables, methods, options),
        others=[_other(name, by_label(rows), tables, fixed_reference, options) for name, rows in others.items()],
        tables=tables,
        settings=[_summary(label, table) for label, table in tables.items()],
        fixed=against(fixed_reference, fixed),
        fixed_reference=fixed_reference,
        matched=_matched(tables, mixtures, matched_reference),
        matched_reference=matched_reference,
        shown=shown,
        groups=_groups(tables, pairs, list(shown.values())),
        pairs=len(pair_ids),
        seeds=len(seeds),
        students=len({score.student for score in scores}),
    )


def against(reference: str, columns: Mapping[str, Column]) -> dict[str, Against | None]:
    """Compare the reference with every other column, with Holm's correction over all of them.

    Returns:
        None for the reference itself, for a column that shares no scored image with it, and for all columns if there
        is no reference.
    """
    if reference not in columns:
        return dict.fromkeys(columns)
    comparisons = {}
    ps = {}  # of the columns that can be tested; only these count for the correction
    for name, values in columns.items():
        if name != reference:
            comparison = compare(columns[reference], values)
            comparisons[name] = comparison
            if comparison.test is not None:
                ps[name] = comparison.test.p
    corrected = dict(zip(ps, holm(list(ps.values())), strict=True))
    result: dict[str, Against | None] = dict.fromkeys(columns)
    for name, p in corrected.items():
        difference = interval(comparisons[name].differences)
        if difference is not None:
            result[name] = Against(difference, p, comparisons[name])
    return result


def conclusion(compared: Against | None) -> str:
    """Say in a word where a setting stands against the reference, at a corrected p of .05."""
    if compared is None:
        return "–"
    if compared.p >= SIGNIFICANT or compared.difference.mean == 0:
        return "undecided"
    return "behind" if compared.difference.mean > 0 else "ahead"


def _answer(tables: Mapping[str, Table], methods: Mapping[str, str], options: ReportOptions) -> Answer | None:
    """Find the guided setting with the best headline score, and compare it with the next best.

    The negative score alone is highest where guidance ruins the picture, so that it counts only among settings which
    keep the positive score; full success looks at both by itself.
    """
    least_positive = 0 if options.headline == "success" else Fraction(str(options.kept))
    columns = {}
    for label, table in tables.items():
        if methods[label] != "none" and (exact_mean(column(table, "positive")) or 0) >= least_positive:
            columns[label] = column(table, options.headline)
    means = {label: exact_mean(values) for label, values in columns.items()}
    ranked = sorted(
        (label for label, mean in means.items() if mean is not None), key=lambda label: -(means[label] or 0)
    )
    if not ranked:
        return None
    best = ranked[0]
    score = interval(columns[best])
    assert score is not None
    if len(ranked) == 1:
        return Answer(best, score)
    following = ranked[1]
    return Answer(
        best, score, following, against(best, {best: columns[best], following: columns[following]})[following]
    )


def _alone(labels: Iterable[str]) -> set[str]:
    """Return the settings that are no point of a sweep: they bear their curve's own name, or are all there is of it."""
    alone: set[str] = set()
    for name, of_curve in curves(list(labels)).items():
        alone.update(label for label in of_curve if label == name or len(of_curve) == 1)
    return alone


def _other(
    name: str, tables: Mapping[str, Table], own: Mapping[str, Table], reference: str, options: ReportOptions
) -> OtherJudge:
    columns = {}
    alone = _alone(tables)
    for label, table in tables.items():
        if label in alone:
            columns[label] = column(table, options.headline)
    scores = {label: interval(values) for label, values in columns.items()}
    return OtherJudge(name, agreement(own, tables), scores, against(reference, columns))


def _reference(wanted: str, candidates: Mapping[str, str], methods: Mapping[str, str]) -> str:
    """Choose the candidate that the others are compared with.

    Args:
        wanted: A label or curve; "" for the first of value sign flip.
        candidates: Method of each candidate.
        methods: Method of each setting.

    Returns:
        "" if none of the candidates is meant. The setting may be one of the other table's.

    Raises:
        RequestError: There is no such setting or curve at all.
    """
    if wanted in candidates:
        return wanted
    if wanted and wanted not in methods and wanted not in curves(list(methods)):
        raise RequestError(f'no setting is called "{wanted}"; there are {", ".join(methods)}.')
    for label, method in candidates.items():
        if method == "vsf":
            return label
    return ""


def _match_on(
    dev: Mapping[str, Table], labels_of_curve: Mapping[str, Sequence[str]], kept: float
) -> dict[str, Mixture | None]:
    """Find the mixture of each curve that keeps this much on dev prompts, among the settings that both folders have."""
    mixtures = {}
    for name, labels in labels_of_curve.items():
        in_both = [label for label in labels if label in dev]
        if not in_both:
            raise RequestError(f'the dev rows have no setting of "{name}": run it on the dev prompts, too.')
        mixtures[name] = match(points(dev, in_both), kept)
    return mixtures


def _matched(tables: Mapping[str, Table], mixtures: Mapping[str, Mixture | None], reference: str) -> list[Matched]:
    """Score and compare all curves at the matched point."""
    negatives = {}
    for name, mixture in mixtures.items():
        if mixture is not None:
            negatives[name] = blend(tables, mixture, "negative")
    comparisons = against(reference, negatives)
    labels_of_curve = curves(list(tables))
    lines = []
    for name, mixture in mixtures.items():
        scores = None
        images = 0
        if mixture is not None:
            scores = _scores([blend(tables, mixture, metric) for metric in METRICS])
            images = sum(value is not None for value in negatives[name].values())
        area = hypervolume(points(tables, labels_of_curve[name]))
        lines.append(Matched(name, float(area), images, mixture, scores, comparisons.get(name)))
    return lines


def _summary(label: str, table: Table) -> SettingSummary:
    scores = list(table.values())
    first = scores[0].row
    return SettingSummary(
        label=label,
        method=first.method,
        strength=first.strength,
        images=len(scores),
        unscored=sum(not score.is_complete for score in scores),
        unreadable=sum(score.verdict is not None and not score.verdict.is_readable for score in scores),
        scores=_scores([column(table, metric) for metric in METRICS]),
        seconds=median(score.row.run.seconds for score in scores),
    )


def _scores(columns: Sequence[Column]) -> Scores:
    intervals = []
    for values in columns:
        intervals.append(interval(values))
    return Scores(*intervals)


def _representative(mixture: Mixture | None, tables: Mapping[str, Table], labels: Sequence[str]) -> str:
    """Choose the setting that shows a curve: the heavier one of its mixture, or else the one that keeps most."""
    if mixture is not None:
        return max(mixture.weights, key=mixture.weights.__getitem__)
    front = frontier(points(tables, labels))
    return front[0].label if front else labels[0]


def _groups(tables: Mapping[str, Table], pairs: Mapping[str, Pair], labels: Sequence[str]) -> list[Group]:
    """Score the pairs of each kind, then those about each object; a suite that tells neither has no groups."""
    groups = []
    for by in ("kind", "object"):
        members: dict[str, set[str]] = {}
        for pair in pairs.values():
            name = pair.about.get(by)
            if name:
                members.setdefault(name, set()).add(pair.id)
        for name, ids in sorted(members.items()):
            groups.append(Group(by, name, len(ids), _means(tables, ids, labels)))
    return groups


def _means(
    tables: Mapping[str, Table], ids: set[str], labels: Sequence[str]
) -> dict[str, tuple[float | None, float | None]]:
    """Return positive and negative score of each setting over some pairs."""
    means = {}
    for label in labels:
        part = {key: score for key, score in tables[label].items() if key[0] in ids}  # a key begins with the pair
        means[label] = _mean(column(part, "positive")), _mean(column(part, "negative"))
    return means


def _mean(values: Column) -> float | None:
    means = per_pair(values).values()
    return sum(means) / len(means) if means else None
