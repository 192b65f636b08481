"""The numbers of a report for spreadsheets (CSV) and for a README (Markdown), and what the run cost."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vsf.bench.report.content import Against, Content, Scores
from vsf.bench.run import jsonl as journal
from vsf.bench.run import rows as records
from vsf.bench.run.rows import Row, Score, Verdict
from vsf.bench.stats.bootstrap import Interval
from vsf.bench.stats.tables import METRICS


@dataclass(frozen=True)
class Costs:
    """What drawing and judging took, and with which model and judge.

    seconds: all images together. tokens, dollars: of all verdicts that say; None where none says.
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
    """A table of texts under a title."""

    title: str
    head: Sequence[str]
    lines: Sequence[Sequence[str]]


def costs(folder: Path, scores: Sequence[Score], judge: str | None) -> Costs:
    """Add up what the rows and the verdicts of one judge say. Raises RequestError for damaged files."""
    drawn = records.rows(folder)
    verdicts = [verdict for verdict in records.verdicts(folder) if verdict.judge == judge]
    tokens = [verdict.tokens for verdict in verdicts if verdict.tokens is not None]
    dollars = [verdict.cost for verdict in verdicts if verdict.cost is not None]
    return Costs(
        models=sorted({f"{row.model} ({row.revision[:12]})" for row in drawn}),
        judges=sorted({f"{verdict.judge} {verdict.judge_version}" for verdict in verdicts}),
        images=len(scores),
        seconds=sum(score.seconds for score in scores),
        verdicts=len(verdicts),
        tokens=sum(tokens) if tokens else None,
        dollars=sum(dollars) if dollars else None,
    )


def write(content: Content, spent: Costs, folder: Path) -> None:
    """Write report.md, and settings.csv, matched.csv and groups.csv below `report`. Raises RequestError."""
    journal.write(folder / "report.md", markdown(content, spent).encode())
    tables = {"settings": settings_table(content), "matched": matched_table(content), "groups": groups_table(content)}
    for name, lines in tables.items():
        stream = io.StringIO()
        csv.writer(stream, lineterminator="\n").writerows(lines)
        journal.write(folder / "report" / f"{name}.csv", stream.getvalue().encode())


def write_images(images: Sequence[tuple[Row, Verdict | None]], file: Path) -> None:
    """Write a JSON line for each image: its row and what the judge said, which is null where it was not asked yet.

    Raises RequestError.
    """
    unasked = dict.fromkeys(Verdict.model_fields)
    lines = [
        json.dumps({**(verdict.model_dump(mode="json") if verdict else unasked), **row.model_dump(mode="json")})
        for row, verdict in images
    ]
    journal.write(file, "".join(f"{line}\n" for line in lines).encode())


def settings_table(content: Content) -> list[list[object]]:
    """Every setting with its scores and their intervals, under a line of names."""
    head = ["label", "method", "strength", "images", "unscored", *_score_names(), "median_seconds", *_AGAINST]
    lines: list[list[object]] = [list(head)]
    for setting in content.settings:
        first = [setting.label, setting.method, setting.strength, setting.images, setting.unscored]
        compared = content.fixed.get(setting.label)
        lines.append([*first, *_score_cells(setting.scores), setting.seconds, *_against_cells(compared)])
    return lines


def matched_table(content: Content) -> list[list[object]]:
    """Every curve at the matched point, under a line of names."""
    lines: list[list[object]] = [["curve", "settings", *_score_names(), *_AGAINST]]
    for line in content.matched:
        weights = line.mixture.weights if line.mixture is not None else {}
        told = " + ".join(f"{weight:g} × {label}" for label, weight in weights.items())
        lines.append([line.curve, told, *_score_cells(line.scores), *_against_cells(line.against)])
    return lines


def groups_table(content: Content) -> list[list[object]]:
    """The scores of every kind of pair and of every object, one line for each setting shown."""
    lines: list[list[object]] = [["by", "group", "pairs", "label", "positive", "negative"]]
    lines += [
        [group.by, group.name, group.pairs, label, *pair]
        for group in content.groups
        for label, pair in group.scores.items()
    ]
    return lines


def as_records(table: Sequence[Sequence[object]]) -> list[dict[str, object]]:
    """Turn a table under a line of names into one mapping a line, for JSON."""
    names, *lines = table
    return [dict(zip(map(str, names), line, strict=True)) for line in lines]


def for_people(content: Content) -> list[TextTable]:
    """Lay out the two tables of a report: settings as they are, and methods where they keep the same."""
    fixed = [
        [
            setting.label,
            *map(shown, _intervals(setting.scores)),
            p_text(content.fixed.get(setting.label)),
            str(setting.unscored),
        ]
        for setting in content.settings
        if setting.label in content.fixed
    ]
    matched = [[line.curve, *map(shown, _intervals(line.scores)), p_text(line.against)] for line in content.matched]
    where = "dev prompts" if content.asked.matched_on_dev else "these rows themselves, which flatters"
    against_fixed = f"p against {content.fixed_reference or '–'}"
    against_matched = f"p against {content.matched_reference or '–'}"
    return [
        TextTable("Settings as they are", ("setting", *METRICS, against_fixed, "unscored"), fixed),
        TextTable(
            f"At a positive score of {content.asked.kept:g}, matched on {where}",
            ("method", *METRICS, against_matched),
            matched,
        ),
    ]


def markdown(content: Content, spent: Costs) -> str:
    """The two tables of a report as Markdown, and a line on where they are from."""
    fixed, matched = for_people(content)
    seeds = "1 seed" if content.seeds == 1 else f"{content.seeds} seeds"
    return "\n".join(
        [
            f"{spent.images} images of {content.pairs} pairs from {seeds}; {', '.join(spent.models)}; "
            f"judged by {', '.join(spent.judges) or 'nobody yet'}. Means with 95 % bootstrap intervals over pairs; "
            "p: exact sign flips over pairs of the negative score, Holm-corrected.",
            "",
            *_markdown_table(fixed.head, fixed.lines),
            "",
            f"{matched.title}:",
            "",
            *_markdown_table(matched.head, matched.lines),
            "",
        ]
    )


def shown(value: Interval | None) -> str:
    """A score with its interval, for people."""
    return "–" if value is None else f"{value.mean:.3f} [{value.low:.3f}, {value.high:.3f}]"


def p_text(compared: Against | None) -> str:
    """A p value for people; one that was resampled says so."""
    if compared is None or compared.comparison.test is None:
        return "–"
    resampled = compared.comparison.test.resamples is not None
    number = f"{compared.p:.3f}" if compared.p >= 0.001 else f"{compared.p:.1e}"
    return f"{number} (resampled)" if resampled else number


_AGAINST = [
    "reference_minus_this",
    "difference_low",
    "difference_high",
    "p_holm",
    "p_resamples",
    "mcnemar_p",
    "dropped",
]


def _against_cells(compared: Against | None) -> list[object]:
    if compared is None or compared.comparison.test is None:
        return [None] * len(_AGAINST)
    difference, comparison = compared.difference, compared.comparison
    spread = [difference.mean, difference.low, difference.high]
    return [*spread, compared.p, compared.comparison.test.resamples, comparison.mcnemar, comparison.dropped]


def _score_names() -> list[str]:
    return [f"{metric}{end}" for metric in METRICS for end in ("", "_low", "_high")]


def _score_cells(scores: Scores | None) -> list[object]:
    cells: list[object] = []
    for value in _intervals(scores):
        cells += [None] * 3 if value is None else [value.mean, value.low, value.high]
    return cells


def _intervals(scores: Scores | None) -> list[Interval | None]:
    return [None] * 3 if scores is None else [scores.positive, scores.negative, scores.quality]


def _markdown_table(head: Sequence[str], lines: Iterable[Sequence[object]]) -> list[str]:
    rows = [head, ["---"] * len(head), *lines]
    return ["| " + " | ".join(_markdown_cell(cell) for cell in row) + " |" for row in rows]


def _markdown_cell(cell: object) -> str:
    text = str(cell).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
    return " ".join(text.split())
