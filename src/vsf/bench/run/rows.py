"""The records of a run: one row per image, one verdict per judged image, and scores, which join the two."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer, model_validator

from vsf.bench.run import jsonl
from vsf.errors import RequestError
from vsf.judges.base import Verdict

ROWS = "rows.jsonl"
VERDICTS = "verdicts.jsonl"
MEASURES = "measures.jsonl"
IMAGES = "images"
HARMLESS = "harmless"
"""The kind, in `Pair.about`, of a pair whose negative prompt names what the picture does not show anyway."""


class RunInfo(BaseModel):
    """The circumstances under which an image was drawn; they have no influence on its content.

    Attributes:
        seconds: The image's share of its batch.
        peak_memory: Bytes on the device, or of the process if it computes on the CPU; None if unknown.
        host: Name of the machine.
        device: Device of the model.
        versions: Version of each package that matters.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seconds: float
    peak_memory: int | None
    host: str
    device: str
    versions: dict[str, str]


class Row(BaseModel):
    """One image and how it came about. In a file the fields of `run` stand beside the others.

    Attributes:
        key: Hash of setting, pair, seed and weights; no two rows of a folder share one.
        pair: Id of the prompt pair.
        seed: Index of the image among those of its pair and setting.
        label: Label of the setting.
        knobs: All knobs of the method, defaults included.
        strength: The swept number, if the setting is a point of a trade-off curve.
        within: The context in which the negative prompt was read; see `vsf.bench.plan.Setting`.
        revision: Commit or hash of the weights.
        image: Path below the folder of the run.
        image_hash: sha256 of that file.
        frames: Number of frames in it, 1 unless it is a clip.
        size: Width and height in pixels.
        run: When, where and how fast it was drawn.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    key: str
    pair: str
    seed: int
    label: str
    method: str
    knobs: dict[str, bool | float | str]
    strength: float | None
    steps: int
    guidance_scale: float
    schedule: dict[str, float | str]
    within: str = ""
    model: str
    revision: str
    image: str
    image_hash: str
    frames: int
    size: tuple[int, int]
    run: RunInfo

    @model_validator(mode="before")
    @classmethod
    def _gather_run(cls, fields: Any) -> Any:
        """Collect the fields of `run`, which are flat in a file."""
        if not isinstance(fields, Mapping) or "run" in fields:
            return fields
        run: dict[str, Any] = {}
        row: dict[str, Any] = {}
        for name, value in fields.items():
            target = run if name in RunInfo.model_fields else row
            target[name] = value
        return {**row, "run": run}

    @model_serializer(mode="wrap")
    def _flatten_run(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Write the fields of `run` beside the others."""
        fields = serialize(self)
        run = fields.pop("run")
        return {**fields, **run}


class Measure(BaseModel):
    """A metric's value of one picture.

    Attributes:
        key: Of the picture's row.
        metric: Name of the metric.
        version: Its version.
        value: The value.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    metric: str
    version: str
    value: float


@dataclass(frozen=True)
class Score:
    """A row with everything that is known about its image.

    Attributes:
        row: The row.
        verdict: One judge's verdict; None if it has not judged the image yet.
        measures: By the name of each metric of `vsf.bench.metrics` that has a value for it.
        student: The run that the row is from, where a report joins runs of several models; "" where there is one.
        is_harmless: Whether its negative prompt names what the picture does not show anyway. Such an image tells how
            much a method changes for nothing, and counts for no other score.
    """

    row: Row
    verdict: Verdict | None
    measures: Mapping[str, float] = field(default_factory=dict)
    is_harmless: bool = False
    student: str = ""

    @property
    def success(self) -> bool | None:
        """True if all that was asked for is there, and what was asked away is gone; None if unscored."""
        return self._counted.success if self._counted else None

    @property
    def positive(self) -> bool | None:
        """True if the object is visible; None if unscored."""
        return self._counted.positive if self._counted else None

    @property
    def negative(self) -> bool | None:
        """True if the unwanted part is missing; None if unscored."""
        return self._counted.negative if self._counted else None

    @property
    def quality(self) -> float | None:
        """Quality of the image, from 0 to 1; None if unscored."""
        return self._counted.quality if self._counted else None

    @property
    def damage(self) -> float | None:
        """The share of what else was asked for, such as colour and place, that is not as asked; None if unscored."""
        return self._counted.damage if self._counted else None

    @property
    def change(self) -> float | None:
        """Distance to the unguided picture outside the part, from 0; None if it was not measured."""
        return None if self.is_harmless else self.measures.get("change")

    @property
    def harmless(self) -> float | None:
        """The same for a negative prompt that names what is not in the picture."""
        return self.measures.get("change") if self.is_harmless else None

    @property
    def reason(self) -> str:
        """The judge's reason for its answers, or for giving none."""
        return self.verdict.reason if self.verdict else "not judged yet"

    @property
    def is_complete(self) -> bool:
        """True if the judge answered, if only that there is nothing to recognise."""
        return self.verdict is not None and (self.verdict.is_scored or not self.verdict.is_readable)

    @property
    def _counted(self) -> Verdict | None:
        return None if self.is_harmless else self.verdict


def rows(folder: Path) -> list[Row]:
    """Read every finished row of a run. Raises RequestError for a damaged file."""
    return jsonl.read(folder / ROWS, Row)


def verdicts(folder: Path) -> list[Verdict]:
    """Read the verdicts of all judges; a later one on the same subject replaces an earlier one. Raises RequestError."""
    latest = {}
    for verdict in jsonl.read(folder / VERDICTS, Verdict):
        latest[verdict.image_hash, verdict.pair, verdict.judge, verdict.judge_version] = verdict
    return list(latest.values())


def spent(verdicts: Iterable[Verdict]) -> tuple[int | None, float | None]:
    """Add up the tokens and the dollars of verdicts; None if no verdict counts them."""
    tokens: int | None = None
    dollars: float | None = None
    for verdict in verdicts:
        if verdict.tokens is not None:
            tokens = verdict.tokens if tokens is None else tokens + verdict.tokens
        if verdict.cost is not None:
            dollars = verdict.cost if dollars is None else dollars + verdict.cost
    return tokens, dollars


def measures(folder: Path) -> list[Measure]:
    """Read the measures of a folder; none if nothing was measured. Raises RequestError for a damaged file."""
    return jsonl.read(folder / MEASURES, Measure)


def values_by_row(folder: Path) -> dict[str, dict[str, float]]:
    """Return the measures of each row by the name of the metric, of each metric's newest version."""
    all_measures = measures(folder)
    newest = {entry.metric: entry.version for entry in all_measures}  # new measures are appended
    by_row: dict[str, dict[str, float]] = {}
    for entry in all_measures:
        if entry.version == newest[entry.metric]:
            by_row.setdefault(entry.key, {})[entry.metric] = entry.value
    return by_row


def counted_judge(folder: Path, judge: str | None = None) -> str | None:
    """Choose the judge whose verdicts count: the one that is named, or else the only one that ever answered.

    A judge without a single answer, for instance because its endpoint was down, does not compete with another one.

    Returns:
        The judge's name; None if nobody has judged yet.

    Raises:
        RequestError: There are several to choose from, or none of that name.
    """
    names: dict[str, None] = {}  # sets that keep their order
    answering: dict[str, None] = {}
    for verdict in verdicts(folder):
        names[verdict.judge] = None
        if verdict.is_scored:
            answering[verdict.judge] = None
    candidates = list(answering or names)
    if judge is not None:
        if judge not in names:
            raise RequestError(f'"{folder}" was not judged by {judge}, but by {", ".join(names) or "nobody yet"}.')
        return judge
    if len(candidates) > 1:
        listed = ", ".join(candidates)
        raise RequestError(f'"{folder}" was judged by {listed}: say with --judge which one counts.')
    return candidates[0] if candidates else None
