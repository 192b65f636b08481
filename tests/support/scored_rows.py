"""Rows for the tests of statistics."""

from vsf.bench.run.rows import Score


def score(pair, seed, label, *, positive=True, negative=True, quality=1.0, strength=None, **changed):
    fields = {"method": label.split()[0], "reason": "", "image": "x.png", "seconds": 1.0, **changed}
    return Score(
        pair=pair,
        seed=seed,
        label=label,
        positive=positive,
        negative=negative,
        quality=quality,
        strength=strength,
        **fields,
    )


def setting(label, positives, negatives, qualities=None, seeds=1):
    """A row per pair and seed, the scores given pair by pair."""
    qualities = qualities or [1.0] * len(positives)
    return [
        score(f"p{index // seeds}", index % seeds, label, positive=positive, negative=negative, quality=quality)
        for index, (positive, negative, quality) in enumerate(zip(positives, negatives, qualities, strict=True))
    ]
