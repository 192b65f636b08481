"""A folder of judged rows as a run leaves it, with scores drawn at random around what a method is made to reach."""

import hashlib
from dataclasses import dataclass

import numpy as np
from PIL import Image

from vsf.bench.plan import Setting
from vsf.bench.run import jsonl
from vsf.bench.run.batch import Conditions
from vsf.bench.run.manifest import MANIFEST, Manifest
from vsf.bench.run.rows import ROWS, VERDICTS, Row
from vsf.bench.suites.load import Pair
from vsf.judges.base import Verdict

KINDS = ("vehicle", "animal", "food")


def pair(index, prompt=None):
    about = {"kind": KINDS[index % len(KINDS)], "object": f"thing {index}"}
    return Pair(f"p{index:03d}", prompt or f"a picture of thing {index}", "wheels", "There?", "Gone?", about)


@dataclass(frozen=True)
class How:
    """Seeds of each pair, share of unscored images, seed of the scores, what the judge says, side of the pictures."""

    seeds: int = 2
    unscored: float = 0.0
    rng: int = 0
    reason: str = "seen"
    side: int = 8


def write(folder, chances, pairs, **how):
    """Write rows, verdicts, pictures and manifest.

    `chances` gives each label its method and the chances of a positive and a negative yes, and the mean quality.
    `how` is what `How` has.
    """
    how = How(**how)
    rng = np.random.default_rng(how.rng)
    settings = [Setting(label=label, method=method) for label, (method, *_) in chances.items()]
    folder.mkdir(parents=True, exist_ok=True)
    jsonl.write_json(folder / MANIFEST, Manifest.of(Conditions(), settings, pairs, {"tiny": "0" * 40}))
    rows, verdicts = [], []
    for setting in settings:
        _, positive, negative, quality = chances[setting.label]
        for item in pairs:
            for seed in range(how.seeds):
                name = f"images/{setting.label.replace(' ', '-')}/{item.id}-{seed}.png"
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, 255, (how.side, how.side, 3), dtype=np.uint8)).save(folder / name)
                row = _row(setting, item, seed, name, hashlib.sha256((folder / name).read_bytes()).hexdigest())
                rows.append(row)
                verdicts.append(
                    _unread(row)
                    if rng.random() < how.unscored
                    else _verdict(row, rng.random() < positive, rng.random() < negative, quality, rng, how.reason)
                )
    jsonl.append(folder / ROWS, rows)
    jsonl.append(folder / VERDICTS, verdicts)
    return folder


def _row(setting, item, seed, image, digest):
    return Row(
        key=f"{setting.label} {item.id} {seed}",
        pair=item.id,
        seed=seed,
        label=setting.label,
        method=setting.method,
        knobs={},
        strength=None,
        steps=8,
        guidance_scale=0.0,
        schedule={},
        model="tiny",
        revision="0" * 40,
        image=image,
        image_hash=digest,
        size=(8, 8),
        frames=1,
        seconds=0.5,
        peak_memory=None,
        host="h",
        device="cpu",
        versions={},
    )


def _verdict(row, positive, negative, quality, rng, reason):
    return Verdict(
        image_hash=row.image_hash,
        pair=row.pair,
        judge="fake",
        judge_version="1",
        positive=positive,
        negative=negative,
        quality=float(np.clip(quality + rng.normal(0, 0.03), 0, 1)),
        reason=reason,
        tokens=100,
        cost=0.001,
    )


def _unread(row):
    nothing = {"positive": None, "negative": None, "quality": None, "reason": "malformed answer"}
    return Verdict(image_hash=row.image_hash, pair=row.pair, judge="fake", judge_version="1", **nothing)
