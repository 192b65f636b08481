"""A report's numbers as CSV, JSON lines and Markdown, and the costs of its run."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from vsf.bench.report.content import Against, Content, Scores
from vsf.bench.run import jsonl
from vsf.bench.run.rows import Score, rows, spent, verdicts
from vsf.bench.stats.bootstrap import Interval
from vsf.bench.stats.tables import METRICS
from vsf.judges.base import Verdict

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


def costs(folder: Path, scores: Sequence[Score], judge: str | None) -> Costs:
    """Add up the costs of the rows and of one judge's verdicts. Raises RequestError for damaged files."""
    models = {f"{row.model} ({row.revision[:12]})" for row in rows(folder)}
    judged = [verdict for verdict in verdicts(folder) if verdict.judge == judge]
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
    head = ["label", "method", "strength", "images", "unscored", *_score_names(), "median_seconds", *_AGAINST]
    table: list[list[object]] = [list(head)]
    for setting in content.settings:
        line: list[object] = [setting.label, setting.method, setting.strength, setting.images, setting.unscored]
        line += _score_cells(setting.scores)
        line.append(setting.seconds)
        line += _against_cells(content.fixed.get(setting.label))
        table.append(line)
    return table


def matched_table(content: Content) -> list[list[object]]:
    """Return a head, and a line per curve with its scores at the matched point."""
    table: list[list[object]] = [["curve", "settings", *_score_names(), *_AGAINST]]
    for line in content.matched:
        weights = line.mixture.weights if line.mixture is not None else {}
        mixture = " + ".join(f"{weight:g} × {label}" for label, weight in weights.items())
        table.append([line.curve, mixture, *_score_cells(line.scores), *_against_cells(line.against)])
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


def for_people(content: Content) -> list[TextTable]:
    """Format the two tables of a report: settings as they are, and methods where they keep the same positive score."""
    fixed_lines = []
    for setting in content.settings:
        if setting.label in content.fixed:
            p = p_text(content.fixed[setting.label])
            fixed_lines.append([setting.label, *_score_texts(setting.scores), p, str(setting.unscored)])
    matched_lines = []
    for line in content.matched:
        matched_lines.append([line.curve, *_score_texts(line.scores), p_text(line.against)])
    where = "dev prompts" if content.options.matched_on_dev else "these rows themselves, which flatters"
    against_fixed = f"p against {content.fixed_reference or '–'}"
    against_matched = f"p against {content.matched_reference or '–'}"
    return [
        TextTable("Settings as they are", ("setting", *METRICS, against_fixed, "unscored"), fixed_lines),
        TextTable(
            f"At a positive score of {content.options.kept:g}, matched on {where}",
            ("method", *METRICS, against_matched),
            matched_lines,
        ),
    ]


def markdown(content: Content, costs: Costs) -> str:
    """Format the two tables of a report as Markdown, under a line about the images and tests behind them."""
    fixed, matched = for_people(content)
    seeds = "1 seed" if content.seeds == 1 else f"{content.seeds} seeds"
    lines = [
        f"{costs.images} images of {content.pairs} pairs from {seeds}; {', '.join(costs.models)}; "
        f"judged by {', '.join(costs.judges) or 'nobody yet'}. Means with 95 % bootstrap intervals over pairs; "
        "p: exact sign flips over pairs of the negative score, Holm-corrected.",
        "",
        *_markdown_table(fixed.head, fixed.lines),
        "",
        f"{matched.title}:",
        "",
        *_markdown_table(matched.head, matched.lines),
        "",
    ]
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


def _score_texts(scores: Scores | None) -> list[str]:
    return list(map(shown, _intervals(scores)))


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
