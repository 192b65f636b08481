"""Draw every pair with every setting, one row per image, and go on where an earlier run stopped."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from vsf.bench.plan import Setting
from vsf.bench.run import jsonl as journal
from vsf.bench.run.batch import Batch, Conditions, Drawing, Drawn, identify, shown
from vsf.bench.run.manifest import Manifest, in_use, manifest, pinned
from vsf.bench.run.rows import IMAGES, ROWS, Row, rows

if TYPE_CHECKING:
    from vsf.bench.suites.load import Pair

Job = TypeVar("Job")
Done = TypeVar("Done")
Tick = Callable[[int, int], None]
"""Called with how many are done, and how many there are in all."""


class Engine(Protocol):
    """Where work runs."""

    def map(self, work: Callable[[Job], Done], jobs: Sequence[Job]) -> Iterator[Done]:
        """Do every job and yield what comes of it, in whatever order; each worker has its own copy of `work`.

        Raises what the work raises, and RequestError when workers keep dying.
        """
        ...


@dataclass(frozen=True)
class Task:
    """What to draw: every pair from every seed with every setting."""

    settings: Sequence[Setting]
    pairs: Sequence[Pair]
    seeds: Sequence[int]
    conditions: Conditions


def run(folder: Path, task: Task, engine: Engine, tick: Tick, limit: int | None = None) -> int:
    """Draw what is not drawn yet. Each image is on the disk before its row, and a row before the next batch is taken.

    Batches do not depend on what is done already, so an interrupted run ends with the rows of an undisturbed one.

    Args:
        folder: of images and rows.
        task: what to draw.
        engine: where to draw.
        tick: told how far it is.
        limit: images after which to stop; a later run goes on. All if not given.

    Returns:
        How many images of the task there are now.

    Raises:
        RequestError: the folder holds rows of other conditions or is in use, the disk is full, or workers keep dying.
        VsfError: whatever loading the model or guiding it raises.
    """
    models = _models(task)
    with in_use(folder):
        pinned(folder, _manifest(task, models))
        batches = [(batch, keys(batch)) for batch in _batches(task, models)]
        asked = {key for _, names in batches for key in names}
        done = {row.key for row in rows(folder)}
        goal = len(asked) if limit is None else min(len(asked), len(asked & done) + limit)
        tick(len(asked & done), goal)
        for drawn in engine.map(Drawing(task.conditions), _missing(batches, done, limit)):
            done |= _keep(folder, drawn, done, goal - len(asked & done))
            tick(len(asked & done), goal)
        return len(asked & done)


def planned(folder: Path, task: Task) -> list[tuple[Batch, list[str]]]:
    """Cut up the work of a task, with the keys of its images, and write nothing.

    Raises:
        RequestError: the folder holds rows of other conditions.
    """
    models = _models(task)
    there = manifest(folder)
    if there is not None:
        there.joined(_manifest(task, models))
    return [(batch, keys(batch)) for batch in _batches(task, models)]


def _missing(batches: Sequence[tuple[Batch, list[str]]], done: set[str], limit: int | None) -> list[Batch]:
    """Take the batches that lack an image, as many as bring `limit` images."""
    missing: list[Batch] = []
    images = 0
    for batch, names in batches:
        if limit is not None and images >= limit:
            break
        if lacking := set(names) - done:
            missing.append(batch)
            images += len(lacking)
    return missing


def _models(task: Task) -> dict[str, tuple[str, str]]:
    """Identify every model of a task: its place and the revision of its weights, by the name that was given."""
    return {name: identify(name) for name in dict.fromkeys(_model(setting, task) for setting in task.settings)}


def _manifest(task: Task, models: Mapping[str, tuple[str, str]]) -> Manifest:
    """What the folder keeps of a task: like a row, it names no place on a disk."""
    conditions = task.conditions.model_copy(update={"model": shown(task.conditions.model)})
    settings = [s if s.model is None else s.model_copy(update={"model": shown(s.model)}) for s in task.settings]
    revisions = {shown(name): revision for name, (_, revision) in models.items()}
    return Manifest.of(conditions, settings, task.pairs, revisions)


def _batches(task: Task, models: Mapping[str, tuple[str, str]]) -> Iterator[Batch]:
    """The work cut up, model by model, because a worker holds one at a time."""
    size = task.conditions.batch
    for name in models:
        for setting, seed in product(task.settings, task.seeds):
            if _model(setting, task) == name:
                for start in range(0, len(task.pairs), size):
                    yield Batch(setting, tuple(task.pairs[start : start + size]), seed, *models[name])


def keys(batch: Batch) -> list[str]:
    """What names each image of a batch: a hash of setting, pair, seed and weights."""
    shared = [batch.setting.identity(), batch.seed, batch.revision]
    documents = [[*shared, pair.id, pair.prompt, pair.negative] for pair in batch.pairs]
    return [hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:24] for document in documents]


def _keep(folder: Path, drawn: Drawn, done: set[str], room: int) -> set[str]:
    """Store the first `room` images of a batch that are new, then their rows; returns the keys of these."""
    new = [
        (_row(drawn, index, key), content)
        for index, (key, content) in enumerate(zip(keys(drawn.batch), drawn.files, strict=True))
        if key not in done
    ][:room]
    for row, content in new:
        journal.write(folder / row.image, content)
    journal.append(folder / ROWS, [row for row, _ in new])
    return {row.key for row, _ in new}


def _row(drawn: Drawn, index: int, key: str) -> Row:
    batch, pair, setting = drawn.batch, drawn.batch.pairs[index], drawn.batch.setting
    identity = setting.identity()
    return Row(
        key=key,
        pair=pair.id,
        seed=batch.seed,
        label=setting.label,
        method=setting.method,
        knobs=identity["knobs"],
        strength=setting.strength,
        steps=setting.steps,
        guidance_scale=setting.guidance_scale,
        schedule=identity["schedule"],
        within=setting.within,
        model=shown(batch.model),
        revision=batch.revision,
        image=f"{IMAGES}/{_file_name(setting.label)}/{_file_name(pair.id)}-s{batch.seed}-{key[:8]}.png",
        image_hash=hashlib.sha256(drawn.files[index]).hexdigest(),
        frames=drawn.frames,
        size=drawn.size,
        seconds=drawn.seconds,
        peak_memory=drawn.peak_memory,
        host=drawn.host,
        device=drawn.device,
        versions=drawn.versions,
    )


def _model(setting: Setting, task: Task) -> str:
    return setting.model or task.conditions.model


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.=+-]+", "-", text).strip("-.")[:60] or "x"
