"""Agreement of two judges on the same images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from vsf.bench.stats.tables import Metric, Table, column

ANSWERS: tuple[Metric, ...] = ("success", "positive", "negative")
"""The yes-or-no answers on which judges can agree."""


@dataclass(frozen=True)
class Agreement:
    """How often two judges give the same answer.

    Attributes:
        metric: The question.
        images: Images that both answered.
        share: Share of equal answers.
        kappa: Cohen's kappa; None if both always give the same one answer.
    """

    metric: Metric
    images: int
    share: float
    kappa: float | None


def agreement(first: Mapping[str, Table], second: Mapping[str, Table]) -> list[Agreement]:
    """Compare two judges' answers, all settings together; a question that they share no image of is left out."""
    agreements = []
    for metric in ANSWERS:
        answers: Counter[tuple[bool, bool]] = Counter()
        for label, table in first.items():
            second_answers = column(second.get(label, {}), metric)
            for key, answer in column(table, metric).items():
                second_answer = second_answers.get(key)
                if answer is not None and second_answer is not None:
                    answers[bool(answer), bool(second_answer)] += 1
        if answers:
            share, kappa = cohen(answers)
            agreements.append(Agreement(metric, answers.total(), share, kappa))
    return agreements


def cohen(answers: Counter[tuple[bool, bool]]) -> tuple[float, float | None]:
    """Return the share of equal answers and Cohen's kappa, which takes off what chance alone would make equal.

    Source: J. Cohen, A coefficient of agreement for nominal scales, Educ. Psychol. Meas. 20 (1960).

    Args:
        answers: How often each pair of answers was given.
    """
    total = answers.total()
    share = (answers[True, True] + answers[False, False]) / total
    first_yes = (answers[True, True] + answers[True, False]) / total
    second_yes = (answers[True, True] + answers[False, True]) / total
    by_chance = first_yes * second_yes + (1 - first_yes) * (1 - second_yes)
    return share, None if by_chance == 1 else (share - by_chance) / (1 - by_chance)
