"""Recompute a report's numbers from its rows, without the package: ``python benchmarks/recompute.py FOLDER [...]``.

It reads rows.jsonl and verdicts.jsonl, or their gzipped forms, with the standard library alone and shares no code with
``vsf.bench.stats``: means are exact fractions, sign-flip tests are exact counts held in one large integer, intervals
come from random draws of its own. What differs from report/settings.csv is printed, and the exit code is then 1.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import math
import random
import sys
from collections import defaultdict
from fractions import Fraction
from itertools import product
from pathlib import Path

METRICS = ("success", "positive", "negative", "damage", "quality")
DRAWS = 500
ENDS_APART = 0.25  # of an interval's width: what two sets of random draws may differ by, beside the step of a mean


def records(file: Path) -> list[dict]:
    """Read JSON lines, gzipped or not."""
    packed = file.with_name(file.name + ".gz")
    text = file.read_text() if file.exists() else gzip.decompress(packed.read_bytes()).decode()
    return [json.loads(line) for line in text.splitlines()]


def answer(verdict: dict | None, metric: str) -> Fraction | None:
    """Return a verdict's score; None if it has none."""
    if verdict is None:
        return None
    readable = verdict.get("is_readable", True)
    checks = verdict.get("checks")
    if metric == "success":
        if not readable:
            return Fraction(0)
        if checks is None or verdict["positive"] is None:
            return None
        return Fraction(bool(verdict["positive"] and verdict["negative"] and all(checks.values())))
    if metric == "damage":
        return Fraction(list(checks.values()).count(False), len(checks)) if checks and readable else None
    return None if verdict[metric] is None else Fraction(verdict[metric])


def tables(folders: list[Path], judge: str | None) -> dict[str, dict[tuple[str, int, int], dict | None]]:
    """Return the verdict on every image, by setting and by (pair, student, seed)."""
    found: dict[str, dict] = defaultdict(dict)
    for student, folder in enumerate(folders):
        harmless = {
            name
            for name, pair in json.loads((folder / "manifest.json").read_text())["pairs"].items()
            if pair["about"].get("kind") == "harmless"
        }
        verdicts = [entry for entry in records(folder / "verdicts.jsonl") if judge in (None, entry["judge"])]
        version = verdicts[-1]["judge_version"] if verdicts else ""
        by_image = {(v["image_hash"], v["pair"]): v for v in verdicts if v["judge_version"] == version}
        for row in records(folder / "rows.jsonl"):
            verdict = None if row["pair"] in harmless else by_image.get((row["image_hash"], row["pair"]))
            found[row["label"]][row["pair"], student, row["seed"]] = verdict
    return found


def column(table: dict, metric: str) -> dict[tuple[str, int, int], Fraction]:
    """Return the scored images alone."""
    scores = {key: answer(verdict, metric) for key, verdict in table.items()}
    return {key: score for key, score in scores.items() if score is not None}


def by_pair(scores: dict[tuple[str, int, int], Fraction]) -> dict[str, Fraction]:
    """Return the mean of each pair."""
    groups: dict[str, list[Fraction]] = defaultdict(list)
    for (pair, _, _), score in scores.items():
        groups[pair].append(score)
    return {pair: sum(group, Fraction()) / len(group) for pair, group in groups.items()}


def mean(scores: dict[tuple[str, int, int], Fraction]) -> Fraction | None:
    """Return the mean over pairs; None without any."""
    means = by_pair(scores)
    return sum(means.values(), Fraction()) / len(means) if means else None


def interval(scores: dict[tuple[str, int, int], Fraction], rng: random.Random) -> tuple[float, float]:
    """Resample pairs and students, both with replacement."""
    cells: dict[tuple[str, int], list[float]] = defaultdict(list)
    for (pair, student, _), score in scores.items():
        cells[pair, student].append(float(score))
    means = {cell: sum(values) / len(values) for cell, values in cells.items()}
    pairs = sorted({pair for pair, _ in means})
    students = sorted({student for _, student in means})
    draws = []
    for _ in range(DRAWS):
        drawn_students = rng.choices(students, k=len(students))
        drawn_pairs = rng.choices(pairs, k=len(pairs))
        cells_drawn = product(drawn_pairs, drawn_students)
        values = [means[cell] for cell in cells_drawn if cell in means]
        if values:
            draws.append(sum(values) / len(values))
    draws.sort()
    return draws[int(0.025 * len(draws))], draws[int(0.975 * len(draws)) - 1]


def sign_flip(differences: list[Fraction]) -> float:
    """Return the exact share of sign vectors whose sum is as far from 0 as the observed one.

    The polynomial Π (1 + x^(2u)) counts the sums; one integer holds it, its coefficients too far apart to overlap.
    """
    scale = math.lcm(*(difference.denominator for difference in differences))
    units = [int(difference * scale) for difference in differences if difference]
    if not units:
        return 1.0
    step = math.gcd(*units)
    units = [unit // step for unit in units]
    width = len(units) + 1
    packed = 1
    for unit in units:
        packed += packed << (abs(unit) * width)
    total = sum(map(abs, units))
    observed = abs(sum(units))
    mask = (1 << width) - 1
    count = 0
    for above in range(total + 1):  # the sum of the units with a plus sign
        if abs(2 * above - total) >= observed:
            count += (packed >> (above * width)) & mask
    return float(Fraction(count, 2 ** len(units)))


def holm(ps: dict[str, float]) -> dict[str, float]:
    """Correct p values by Holm's step-down method."""
    corrected = {}
    floor = 0.0
    for left, label in zip(range(len(ps), 0, -1), sorted(ps, key=ps.__getitem__), strict=True):
        floor = max(floor, min(1.0, ps[label] * left))
        corrected[label] = floor
    return corrected


def check(folders: list[Path], report: Path, judge: str | None, metric: str, reference: str) -> list[str]:
    """Compare everything with the report's table of settings; return a line for each number that differs."""
    found = tables(folders, judge)
    if reference not in found:
        sys.exit(f'--reference: there is no setting "{reference}"')
    rng = random.Random(1)
    with (report / "settings.csv").open(newline="") as stream:
        lines = {line["label"]: line for line in csv.DictReader(stream)}
    wrong = []
    for label, line in lines.items():
        for name in METRICS:
            if name not in line:
                continue  # a report of an earlier version
            scores = column(found[label], name)
            expected = mean(scores)
            if (expected is None) != (line[name] == ""):
                wrong.append(f"{label}: {name} {line[name] or 'missing'}, recomputed {expected}")
            elif expected is not None:
                if abs(float(line[name]) - float(expected)) > 1e-9:
                    wrong.append(f"{label}: {name} {line[name]}, recomputed {float(expected)}")
                ends = float(line[f"{name}_low"]), float(line[f"{name}_high"])
                allowed = ENDS_APART * (ends[1] - ends[0]) + 1.01 / len(by_pair(scores))
                for told, drawn in zip(ends, interval(scores, rng), strict=True):
                    if abs(told - drawn) > allowed:
                        wrong.append(f"{label}: an end of {name} is {told}, recomputed {drawn}")
    compared = [label for label, line in lines.items() if line["p_holm"] and not line["p_resamples"]]
    ps = {}
    first = column(found[reference], metric) if compared else {}
    for label in compared:
        second = column(found[label], metric)
        shared = {key: first[key] - second[key] for key in first if key in second}
        ps[label] = sign_flip(list(by_pair(shared).values()))
    for label, p in holm(ps).items():
        if abs(float(lines[label]["p_holm"]) - p) > 1e-9 * p:
            wrong.append(f"{label}: p {lines[label]['p_holm']}, recomputed {p}")
    print(f"{len(lines)} settings, {len(ps)} tests of {metric} against {reference}: {len(wrong)} numbers differ")
    return wrong


def main() -> None:
    """Check the report named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, help="rows and verdicts; several are students")
    parser.add_argument("--report", type=Path, help="the report's folder of tables; FOLDER/report if left out")
    parser.add_argument("--judge", help="whose verdicts count")
    parser.add_argument("--metric", default="success", help="the metric of the tests: success, or negative before it")
    parser.add_argument("--reference", default="", help="the setting that the others were tested against")
    options = parser.parse_args()
    report = options.report or options.folders[0] / "report"
    wrong = check(options.folders, report, options.judge, options.metric, options.reference)
    print("\n".join(wrong))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
