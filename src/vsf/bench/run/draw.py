"""Draw every pair with every setting, one row per image, and continue where an earlier run stopped."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from vsf.bench.plan import Setting
from vsf.bench.run import jsonl
from vsf.bench.run.batch import Batch, Conditions, DrawJob, DrawnBatch, identify, public_name
from vsf.bench.run.manifest import Manifest, in_use, read_manifest, update_manifest
from vsf.bench.run.rows import IMAGES, ROWS, Row, rows

if TYPE_CHECKING:
    from vsf.bench.suites.load import Pair
    from vsf.engines.base import Engine

ProgressCallback = Callable[[int, int], None]
"""Called with the number of finished items and their total."""


@dataclass(frozen=True)
class Task:
    """The images to draw: every pair, from every seed, with every setting."""

    settings: Sequence[Setting]
    pairs: Sequence[Pair]
    seeds: Sequence[int]
    conditions: Conditions


def run(folder: Path, task: Task, engine: Engine, progress: ProgressCallback, limit: int | None = None) -> int:
    """Draw the images of a task that do not exist yet.

    Each image is on the disk before its row, and a row before the next batch is taken. Batches do not depend on what
    exists already, so an interrupted run ends with the rows of an undisturbed one.

    Args:
        folder: For images and rows.
        task: The images to draw.
        engine: Runs the drawing.
        progress: Called after every batch.
        limit: Number of images after which to stop; a later run continues. All images if None.

    Returns:
        The number of images of the task that exist now.

    Raises:
        RequestError: The folder holds rows of other conditions or is in use, the disk is full, or workers keep dying.
        VsfError: The model cannot be loaded or guided.
    """
    models = _identify_models(task)
    with in_use(folder):
        update_manifest(folder, _manifest(task, models))
        batches = list(_batches(task, models))
        task_keys: set[str] = set()
        for _, keys in batches:
            task_keys.update(keys)
        # The folder may hold rows of other tasks, too, so only those of this one are counted below.
        done = {row.key for row in rows(folder)}
        before = len(task_keys & done)
        goal = len(task_keys) if limit is None else min(len(task_keys), before + limit)
        progress(before, goal)
        for drawn in engine.map(DrawJob(task.conditions), _incomplete(batches, done, limit)):
            done |= _store(folder, drawn, done, room=goal - len(task_keys & done))
            progress(len(task_keys & done), goal)
        return len(task_keys & done)


def planned(folder: Path, task: Task) -> list[tuple[Batch, list[str]]]:
    """List the batches of a task with the keys of their images, without writing anything.

    Raises:
        RequestError: The folder holds rows of other conditions.
    """
    models = _identify_models(task)
    earlier = read_manifest(folder)
    if earlier is not None:
        earlier.joined(_manifest(task, models))
    return list(_batches(task, models))


def image_keys(batch: Batch) -> list[str]:
    """Return the key of each image of a batch: a hash of setting, pair, seed and weights."""
    shared = [batch.setting.identity(), batch.seed, batch.revision]
    keys = []
    for pair in batch.pairs:
        document = json.dumps([*shared, pair.id, pair.prompt, pair.negative], sort_keys=True)
        keys.append(hashlib.sha256(document.encode()).hexdigest()[:24])
    return keys


def _incomplete(batches: Sequence[tuple[Batch, list[str]]], done: set[str], limit: int | None) -> list[Batch]:
    """Choose the batches that lack an image, as many as bring `limit` new images."""
    incomplete: list[Batch] = []
    new_images = 0
    for batch, keys in batches:
        if limit is not None and new_images >= limit:
            break
        missing = set(keys) - done
        if missing:
            incomplete.append(batch)
            new_images += len(missing)
    return incomplete


def _identify_models(task: Task) -> dict[str, tuple[str, str]]:
    """Pin every model of a task: its location and the revision of its weights, by the name in the settings."""
    models: dict[str, tuple[str, str]] = {}
    for setting in task.settings:
        name = _model(setting, task)
        if name not in models:  # hashing the weights of a large model takes a while
            models[name] = identify(name)
    return models


def _manifest(task: Task, models: Mapping[str, tuple[str, str]]) -> Manifest:
    """Make the manifest of a task. Like a row it names no path on a disk."""
    conditions = task.conditions.model_copy(update={"model": public_name(task.conditions.model)})
    settings = []
    for setting in task.settings:
        if setting.model is not None:
            setting = setting.model_copy(update={"model": public_name(setting.model)})
        settings.append(setting)
    revisions = {}
    for name, (_, revision) in models.items():
        revisions[public_name(name)] = revision
    return Manifest.of(conditions, settings, task.pairs, revisions)


def _batches(task: Task, models: Mapping[str, tuple[str, str]]) -> Iterator[tuple[Batch, list[str]]]:
    """Cut a task into batches with the keys of their images.

    They come model by model, because a worker holds one model at a time.
    """
    size = task.conditions.batch
    for name, (location, revision) in models.items():
        for setting, seed in product(task.settings, task.seeds):
            if _model(setting, task) != name:
                continue
            for start in range(0, len(task.pairs), size):
                batch = Batch(setting, tuple(task.pairs[start : start + size]), seed, location, revision)
                yield batch, image_keys(batch)


def _store(folder: Path, drawn: DrawnBatch, done: set[str], room: int) -> set[str]:
    """Write the first `room` new images of a batch, then their rows. Returns the keys of these."""
    new_rows: list[Row] = []
    new_keys: set[str] = set()
    for index, key in enumerate(image_keys(drawn.batch)):
        if key in done or len(new_rows) == room:
            continue
        row = _row(drawn, index, key)
        jsonl.write(folder / row.image, drawn.files[index])  # before its row, which promises that the file exists
        new_rows.append(row)
        new_keys.add(key)
    jsonl.append(folder / ROWS, new_rows)
    return new_keys


def _row(drawn: DrawnBatch, index: int, key: str) -> Row:
    batch = drawn.batch
    pair = batch.pairs[index]
    setting = batch.setting.identity()
    setting.pop("negative")  # not part of a row; "pipeline" shows in its method "none" and its guidance scale
    folder = f"{IMAGES}/{_file_name(batch.setting.label)}"
    return Row(
        key=key,
        pair=pair.id,
        seed=batch.seed,
        **setting,
        model=public_name(batch.model),
        revision=batch.revision,
        image=f"{folder}/{_file_name(pair.id)}-s{batch.seed}-{key[:8]}.png",
        image_hash=hashlib.sha256(drawn.files[index]).hexdigest(),
        frames=drawn.frames,
        size=drawn.size,
        run=drawn.run,
    )


def _model(setting: Setting, task: Task) -> str:
    return setting.model or task.conditions.model


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.=+-]+", "-", text).strip("-.")[:60] or "x"
