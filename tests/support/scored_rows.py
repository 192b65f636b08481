"""Rows for the tests of statistics."""

from vsf.bench.run.rows import Row, Score
from vsf.judges.base import Verdict


def score(pair, seed, label, *, positive=True, negative=True, quality=1.0, strength=None, method=None):
    row = Row(
        key=f"{label} {pair} {seed}",
        pair=pair,
        seed=seed,
        label=label,
        method=method or label.split()[0],
        knobs={},
        strength=strength,
        steps=8,
        guidance_scale=0.0,
        schedule={},
        model="tiny",
        revision="r",
        image="x.png",
        image_hash="aa",
        frames=1,
        size=(8, 8),
        seconds=1.0,
        peak_memory=None,
        host="here",
        device="cpu",
        versions={},
    )
    return Score(row, Verdict(positive, negative, quality, ""))


def setting(label, positives, negatives, qualities=None, seeds=1):
    """A row per pair and seed, the scores given pair by pair."""
    qualities = qualities or [1.0] * len(positives)
    return [
        score(f"p{index // seeds}", index % seeds, label, positive=positive, negative=negative, quality=quality)
        for index, (positive, negative, quality) in enumerate(zip(positives, negatives, qualities, strict=True))
    ]
