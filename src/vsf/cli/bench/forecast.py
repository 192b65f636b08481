"""Describe in words the work that `vsf bench run` and `vsf bench judge` still have to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vsf.bench.factorial import Factorial
    from vsf.bench.run.estimate import DrawingEstimate, JudgingEstimate


def drawing(estimate: DrawingEstimate) -> str:
    """Write such as `400 images, 380 to draw: about 1 h 3 min, at the pace of those that are there`."""
    text = f"{estimate.images} images, {estimate.missing} to draw"
    if not estimate.missing:
        return text
    if estimate.seconds is None:
        return f"{text}; how long that takes can be told once a few are there: draw them with --limit 4"
    return f"{text}: about {duration(estimate.seconds)}, at the pace of those that are there"


def judging(estimate: JudgingEstimate) -> str:
    """Write such as `380 images for openai:m to judge: about 418000 tokens, at the price of those judged so far`."""
    text = f"{estimate.missing} images for {estimate.judge} to judge"
    if not estimate.missing:
        return text
    amounts = []
    if estimate.tokens is not None:
        amounts.append(f"{estimate.tokens} tokens")
    if estimate.dollars is not None:
        dollars = f"{estimate.dollars:.2g}" if estimate.dollars < 1 else f"{estimate.dollars:.2f}"
        amounts.append(f"{dollars} US dollars")
    if not amounts:
        return f"{text}; no tokens or cost are known of it yet: ask it about a few with vsf bench judge --limit 4"
    return f"{text}: about {', '.join(amounts)}, at the price of those judged so far"


def factorial(design: Factorial, images: int, seconds: float | None, workers: int) -> list[str]:
    """Write what a factorial will draw, a line for each group of cells that do not exist."""
    total = f"{len(design.cells)} cells, {images} images"
    lines = [f"{total}: about {duration(images * seconds / workers)}, without judging" if seconds else total]
    for name, reason in design.left_out.items():
        lines.append(f"left out: {name}, because {reason}")
    return lines


def duration(seconds: float) -> str:
    """Write a time in the two largest of hours, minutes and seconds."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
