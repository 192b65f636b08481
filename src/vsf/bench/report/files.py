"""A report's numbers as CSV, JSON lines and Markdown, and the costs of its run."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import MappingProxyType

from vsf.bench.report.content import Against, Content, Scores, conclusion
from vsf.bench.run import jsonl
from vsf.bench.run.rows import Score, rows, spent, verdicts
from vsf.bench.stats.bootstrap import Interval
from vsf.bench.stats.tables import METRICS, Metric
from vsf.judges.base import Verdict

HEADLINES: Mapping[Metric, str] = MappingProxyType({"success": "full success", "negative": "negative score"})
"""What the metrics that a report can compare settings by are called."""
_AGAINST = (
    "reference_minus_this",
    "difference_low",
    "difference_high",
    "p_holm",
    "p_resamples",
    "mcnemar_p",
    "dropped",
)


@dataclass(frozen=True)
class Costs:
    """The costs of drawing and judging.

    Attributes:
        models: With the revision of their weights.
        judges: With their versions.
        images: Number of images.
        seconds: Of drawing, all images together.
        verdicts: Number of verdicts.
        tokens: Of all verdicts; None if none counts them.
        dollars: Of all verdicts; None if none counts them.
    """

    models: Sequence[str]
    judges: Sequence[str]
    images: int
    seconds: float
    verdicts: int
    tokens: int | None
    dollars: float | None


@dataclass(frozen=True)
class TextTable:
    """A titled table of strings."""

    title: str
    head: Sequence[str]
    lines: Sequence[Sequence[str]]


def costs(folders: Sequence[Path], scores: Sequence[Score], judge: str | None) -> Costs:
    """Add up the costs of the rows and of one judge's verdicts. Raises RequestError for damaged files."""
    models: set[str] = set()
    judged: list[Verdict] = []
    for folder in folders:
        models.update(f"{row.model} ({row.revision[:12]})" for row in rows(folder))
        judged += [verdict for verdict in verdicts(folder) if verdict.judge == judge]
    judges = {f"{verdict.judge} {verdict.judge_version}" for verdict in judged}
    tokens, dollars = spent(judged)
    return Costs(
        models=sorted(models),
        judges=sorted(judges),
        images=len(scores),
        seconds=sum(score.row.run.seconds for score in scores),
        verdicts=len(judged),
        tokens=tokens,
        dollars=dollars,
    )


def write(content: Content, costs: Costs, folder: Path) -> None:
    """Write report.md, and settings.csv, matched.csv and groups.csv below `report`. Raises RequestError."""
    jsonl.write(folder / "report.md", markdown(content, costs).encode())
    tables = {"settings": settings_table(content), "matched": matched_table(content), "groups": groups_table(content)}
    for name, lines in tables.items():
        stream = io.StringIO()
        # The module's own line end would be Windows' on every system.
        csv.writer(stream, lineterminator="\n").writerows(lines)
        jsonl.write(folder / "report" / f"{name}.csv", stream.getvalue().encode())


def write_images(scores: Sequence[Score], file: Path) -> None:
    """Write a JSON line per image with its row and its verdict, whose fields are null if it was not judged yet.

    Raises:
        RequestError: The file cannot be written.
    """
    # Every line has the same fields, so that a table reader finds the same columns in each.
    not_judged = dict.fromkeys(field.name for field in fields(Verdict))
    lines = []
    for score in scores:
        verdict = asdict(score.verdict) if score.verdict else not_judged
        lines.append(json.dumps({**verdict, **score.row.model_dump(mode="json")}) + "\n")
    jsonl.write(file, "".join(lines).encode())


def settings_table(content: Content) -> list[list[object]]:
    """Return a head, and a line per setting with its scores and their intervals."""
    head = [
        "label",
        "method",
        "strength",
        "images",
        "unscored",
        "unreadable",
        *_score_names(),
        "median_seconds",
        *_AGAINST,
    ]
    table: list[list[object]] = [list(head)]
    for setting in content.settings:
        line: list[object] = [setting.label, setting.method, setting.strength]
        line += [setting.images, setting.unscored, setting.unreadable]
        line += _score_cells(setting.scores)
        line.append(setting.seconds)
        line += _against_cells(content.fixed.get(setting.label))
        table.append(line)
    return table


def matched_table(content: Content) -> list[list[object]]:
    """Return a head, and a line per curve with its scores at the matched point."""
    table: list[list[object]] = [["curve", "settings", "images", "hypervolume", *_score_names(), *_AGAINST]]
    for line in content.matched:
        weights = line.mixture.weights if line.mixture is not None else {}
        mixture = " + ".join(f"{weight:g} × {label}" for label, weight in weights.items())
        cells = [*_score_cells(line.scores), *_against_cells(line.against)]
        table.append([line.curve, mixture, line.images, line.hypervolume, *cells])
    return table


def groups_table(content: Content) -> list[list[object]]:
    """Return a head, and a line for each group of pairs and each setting shown, with its mean scores."""
    table: list[list[object]] = [["by", "group", "pairs", "label", "positive", "negative"]]
    for group in content.groups:
        for label, means in group.scores.items():
            table.append([group.by, group.name, group.pairs, label, *means])
    return table


def as_records(table: Sequence[Sequence[object]]) -> list[dict[str, object]]:
    """Turn a table with a head into one mapping per line, for JSON."""
    head, *lines = table
    names = list(map(str, head))
    return [dict(zip(names, line, strict=True)) for line in lines]


def answer(content: Content) -> str:
    """Say in one line what the report found."""
    outcome = content.answer
    name = HEADLINES[content.options.headline]
    if outcome is None:
        return f"No guided setting has a {name}." if name == "full success" else _none_keeps(content)
    images = {setting.label: setting.images - setting.unscored for setting in content.settings}
    among = ""
    if content.options.headline == "negative":
        among = f", of those that keep a positive score of {content.options.kept:g}"
    text = f"{outcome.best} has the best {name}{among}: {shown(outcome.score)} on {images[outcome.best]} images."
    if outcome.against is None:
        return text
    if outcome.against.difference.mean == 0:
        return f"{text} {outcome.next} is level with it."
    lead = f"It leads {outcome.next} by {shown(outcome.against.difference)}, p = {p_text(outcome.against)}"
    agreeing = sum(difference > 0 for difference in outcome.against.comparison.by_student.values())
    if content.students > 1:
        lead += f", in {agreeing} of {content.students} students"
    return f"{text} {lead}."


def _none_keeps(content: Content) -> str:
    return f"No guided setting with a negative score keeps a positive score of {content.options.kept:g}."


def for_people(content: Content) -> list[TextTable]:
    """Format the tables of a report: settings as they are, methods at the same positive score, and other judges."""
    metrics = present(content)
    fixed_lines = []
    for setting in content.settings:
        if setting.label in content.fixed:
            p = p_text(content.fixed[setting.label])
            texts = _score_texts(setting.scores, metrics)
            counts = [str(setting.images), str(setting.unscored), str(setting.unreadable)]
            fixed_lines.append([setting.label, *counts, *texts, p])
    matched_lines = []
    for line in content.matched:
        texts = _score_texts(line.scores, metrics)
        matched_lines.append([line.curve, str(line.images), f"{line.hypervolume:.3f}", *texts, p_text(line.against)])
    where = "dev prompts" if content.options.matched_on_dev else "these rows themselves, which flatters"
    against_fixed = f"p against {content.fixed_reference or '–'}"
    against_matched = f"p against {content.matched_reference or '–'}"
    tables = [
        TextTable(
            "Settings as they are", ("setting", "n", "unscored", "unreadable", *metrics, against_fixed), fixed_lines
        ),
        TextTable(
            f"At a positive score of {content.options.kept:g}, matched on {where}",
            ("method", "n", "hypervolume", *metrics, against_matched),
            matched_lines,
        ),
    ]
    return [*tables, *judges_tables(content)]


def judges_tables(content: Content) -> list[TextTable]:
    """Format the agreement with each other judge, and where each setting stands under both."""
    tables = []
    for judge in content.others:
        lines = []
        for agreement in judge.agreement:
            kappa = "–" if agreement.kappa is None else f"{agreement.kappa:.3f}"
            lines.append([agreement.metric, str(agreement.images), f"{agreement.share:.3f}", kappa])
        tables.append(TextTable(f"Agreement with {judge.name}", ("answer", "n", "equal", "kappa"), lines))
        own_scores = {setting.label: getattr(setting.scores, content.options.headline) for setting in content.settings}
        conclusions = []
        for label, compared in content.fixed.items():
            first = conclusion(compared)
            second = conclusion(judge.fixed.get(label))
            holds = "" if label == content.fixed_reference else "yes" if first == second else "no"
            scores = [shown(own_scores[label]), shown(judge.scores.get(label))]
            conclusions.append([label, *scores, first, second, holds])
        head = ("setting", "here", f"under {judge.name}", "against the reference", f"under {judge.name}", "holds")
        tables.append(TextTable(f"Conclusions about {HEADLINES[content.options.headline]}", head, conclusions))
    return tables


def present(content: Content) -> list[Metric]:
    """List the metrics that any setting has a score of; the paper's three always."""
    metrics: list[Metric] = []
    for metric in METRICS:
        is_there = any(getattr(setting.scores, metric) is not None for setting in content.settings)
        if is_there or metric in ("positive", "negative", "quality"):
            metrics.append(metric)
    return metrics


def markdown(content: Content, costs: Costs) -> str:
    """Format the tables of a report as Markdown, under the answer and a line about the images and tests behind it."""
    seeds = "1 seed" if content.seeds == 1 else f"{content.seeds} seeds"
    students = f", {content.students} students" if content.students > 1 else ""
    units = "pairs and students" if content.students > 1 else "pairs"
    lines = [
        f"**{_markdown_cell(answer(content))}**",
        "",
        f"{costs.images} images of {content.pairs} pairs from {seeds}{students}; {', '.join(costs.models)}; "
        f"judged by {', '.join(costs.judges) or 'nobody yet'}. Means with 95 % bootstrap intervals over {units}; "
        f"p: exact sign flips over pairs of the {HEADLINES[content.options.headline]} (in the second table of the "
        "negative score), Holm-corrected.",
        "",
    ]
    for table in for_people(content):
        lines += [f"{table.title}:", "", *_markdown_table(table.head, table.lines), ""]
    return "\n".join(lines)


def shown(value: Interval | None) -> str:
    """Format a score with its interval."""
    return "–" if value is None else f"{value.mean:.3f} [{value.low:.3f}, {value.high:.3f}]"


def p_text(compared: Against | None) -> str:
    """Format a p value, and say so if it was resampled."""
    if compared is None or compared.comparison.test is None:
        return "–"
    number = f"{compared.p:.3f}" if compared.p >= 0.001 else f"{compared.p:.1e}"
    is_resampled = compared.comparison.test.resamples is not None
    return f"{number} (resampled)" if is_resampled else number


def _against_cells(compared: Against | None) -> list[object]:
    """Return the cells under _AGAINST."""
    if compared is None or compared.comparison.test is None:
        return [None] * len(_AGAINST)
    difference = compared.difference
    comparison = compared.comparison
    cells: list[object] = [difference.mean, difference.low, difference.high]
    cells += [compared.p, compared.comparison.test.resamples, comparison.mcnemar, comparison.dropped]
    return cells


def _score_names() -> list[str]:
    names = []
    for metric in METRICS:
        names += [metric, f"{metric}_low", f"{metric}_high"]
    return names


def _score_cells(scores: Scores | None) -> list[object]:
    """Return the cells under `_score_names`."""
    cells: list[object] = []
    for value in _intervals(scores):
        cells += [None] * 3 if value is None else [value.mean, value.low, value.high]
    return cells


def _score_texts(scores: Scores | None, metrics: Sequence[Metric]) -> list[str]:
    return ["–" if scores is None else shown(getattr(scores, metric)) for metric in metrics]


def _intervals(scores: Scores | None) -> list[Interval | None]:
    return [None] * len(METRICS) if scores is None else [getattr(scores, metric) for metric in METRICS]


def _markdown_table(head: Sequence[str], lines: Iterable[Sequence[object]]) -> list[str]:
    table = []
    for line in (head, ["---"] * len(head), *lines):
        cells = " | ".join(map(_markdown_cell, line))
        table.append(f"| {cells} |")
    return table


def _markdown_cell(cell: object) -> str:
    # A bar would end the cell, and a "<" could open a tag: labels and object names come from a user's files.
    text = str(cell).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
    return " ".join(text.split())
