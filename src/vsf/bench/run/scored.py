"""Join the rows of a folder with their verdicts and measures."""

from __future__ import annotations

from pathlib import Path

from vsf.bench.run.manifest import read_manifest
from vsf.bench.run.rows import HARMLESS, Score, counted_judge, rows, values_by_row, verdicts
from vsf.errors import RequestError


def scored(folder: Path, judge: str | None = None, student: str = "") -> list[Score]:
    """Join every row of a run with one judge's verdict on its image.

    Args:
        folder: Where the run is.
        student: Name of the run among several.
        judge: Name of the judge, of which the newest version counts; may be left out if only one judge gave verdicts.

    Raises:
        RequestError: There are no rows, several judges to choose from, or none of that name.
    """
    all_rows = rows(folder)
    if not all_rows:
        raise RequestError(f'there are no rows in "{folder}": run "vsf bench run --out {folder}" first.')
    name = counted_judge(folder, judge)
    by_judge = [verdict for verdict in verdicts(folder) if verdict.judge == name]
    newest = by_judge[-1].judge_version if by_judge else ""  # new verdicts are appended
    by_image = {}
    for verdict in by_judge:
        if verdict.judge_version == newest:
            by_image[verdict.image_hash, verdict.pair] = verdict
    values = values_by_row(folder)
    harmless = _harmless_pairs(folder)
    scores = []
    for row in all_rows:
        verdict_of_row = by_image.get((row.image_hash, row.pair))
        scores.append(Score(row, verdict_of_row, values.get(row.key, {}), row.pair in harmless, student))
    return scores


def _harmless_pairs(folder: Path) -> set[str]:
    """Return the ids of the pairs whose negative names what the picture does not show anyway."""
    manifest = read_manifest(folder)
    if manifest is None:
        return set()
    return {name for name, fields in manifest.pairs.items() if fields["about"].get("kind") == HARMLESS}
