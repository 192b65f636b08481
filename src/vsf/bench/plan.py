"""Plans: the settings that a benchmark compares, from a file that a person wrote or a sweep froze."""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_serializer, field_validator, model_validator

from vsf import guidance
from vsf.bench import ablations
from vsf.controls.schedule import Schedule
from vsf.errors import RequestError, VsfError
from vsf.generation.metadata import provenance


class Setting(BaseModel):
    """A method with its knobs, and how the model is run with it: one line of the result table.

    Attributes:
        label: Name in tables and plots.
        method: A guidance method, or one of the ablations of `vsf.bench.ablations`.
        knobs: Of the method; those left out have their defaults.
        steps: Denoising steps.
        guidance_scale: Of the pipeline's own classifier-free guidance; up to 1 is off.
        schedule: Fields of `vsf.Schedule`, which says when and in which layers the method acts.
        negative: Who receives the negative prompt: the method, or the pipeline's own classifier-free guidance.
        within: "subject" reads the negative prompt as a part of the prompt's subject (`vsf.text.context.belonging`).
        model: Replaces the run's model, so that a base model at 28 steps can stand in the same table.
        strength: The swept number, if the setting is a point of a trade-off curve.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    label: str = Field(min_length=1)
    method: str = "vsf"
    knobs: dict[str, bool | float | str] = {}
    steps: int = Field(8, ge=1, le=1000)
    guidance_scale: float = Field(0.0, ge=0.0, le=100.0)
    schedule: dict[str, float | str] = {}
    negative: Literal["method", "pipeline"] = "method"
    within: Literal["", "subject"] = ""
    model: str | None = None
    strength: float | None = None

    @field_validator("knobs", mode="before")
    @classmethod
    def _read_infinity(cls, knobs: Any) -> Any:
        """Read the strings that stand for infinity in JSON, which has no such number."""
        if not isinstance(knobs, dict):
            return knobs
        values = {}
        for name, value in knobs.items():
            values[name] = float(value) if value in ("inf", "-inf") else value
        return values

    @field_serializer("knobs", when_used="json")
    def _write_infinity(self, knobs: dict[str, Any]) -> Any:
        return provenance.portable(knobs)

    @model_validator(mode="after")
    def _check(self) -> Setting:
        try:
            self.guidance()
            self.when()
        except VsfError as error:
            raise ValueError(f'"{self.label}": {error}') from error  # pydantic collects no other class
        if self.negative == "pipeline" and not (self.method == "none" and self.guidance_scale > 1):
            raise ValueError(
                f'"{self.label}": the pipeline takes the negative prompt only with method "none" and a guidance_scale '
                f"above 1, got {self.method} and {self.guidance_scale:g}"
            )
        if self.within and (self.negative == "pipeline" or self.method in ablations.ABLATIONS):
            raise ValueError(
                f'"{self.label}": within is for methods that read the negative by itself, not for this one'
            )
        return self

    def guidance(self) -> guidance.Guidance:
        """Make the method, or ablation, with its knobs. Raises UnknownNameError and KnobError."""
        return ablations.method(self.method, **self.knobs)

    def when(self) -> Schedule:
        """Make the schedule of steps and layers in which the method acts. Raises KnobError."""
        try:
            return Schedule(**self.schedule)  # type: ignore[arg-type]
        except TypeError as error:
            raise RequestError(f"a schedule has start, end, curve and layers, got {dict(self.schedule)}.") from error

    def identity(self) -> dict[str, Any]:
        """Return everything that determines an image of this setting, all knobs included, as plain JSON values."""
        fields = self.model_dump(exclude={"model"})  # rows are identified by the model's weights, not by its name
        knobs = self.guidance().knob_values()
        return dict(provenance.portable({**fields, "knobs": knobs}))


class Plan(BaseModel):
    """Settings with distinct labels.

    Attributes:
        settings: The settings.
        ranges: By label, the lowest and highest strength of a setting whose frontier is swept.
        free: By label, the numbers that a factorial tunes, each with its lowest and highest value: knobs, or "end", the
            fraction of the run at which the method stops.
        window: Fields of the `vsf.Schedule` that is a factorial's window.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    settings: tuple[Setting, ...] = Field(min_length=1)
    ranges: dict[str, tuple[float, float]] = {}
    free: dict[str, dict[str, tuple[float, float]]] = {}
    window: dict[str, float | str] = {"layers": "0-1", "end": 0.75}

    @model_validator(mode="after")
    def _check_labels(self) -> Plan:
        counts = Counter(setting.label for setting in self.settings)
        repeated = [label for label, count in counts.items() if count > 1]
        if repeated:
            raise ValueError(f"labels have to differ, but {', '.join(repeated)} stands there more than once")
        unknown = (self.ranges.keys() | self.free.keys()) - counts.keys()
        if unknown:
            raise ValueError(f"there are ranges for {', '.join(sorted(unknown))}, but no such settings")
        return self


def read(file: Path, defaults: Mapping[str, Any] | None = None) -> Plan:
    """Read a plan from TOML or JSON.

    It has a `[[settings]]` table with the fields of `Setting` for each; fields at the top hold for all of them. A table
    `[ranges]` has the range of a setting's strengths under its label, such as `vsf = [0.5, 4.0]`; a table
    `[free.LABEL]` those of the numbers that a factorial tunes, and `[window]` the schedule of its window.

    Args:
        file: The plan.
        defaults: Fields of settings, for those that the file leaves out.

    Raises:
        RequestError: The file cannot be read or is not a plan.
    """
    try:
        text = file.read_text(encoding="utf-8")
        document = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise RequestError(f'cannot read the plan "{file}": {getattr(error, "strerror", None) or error}.') from error
    if not isinstance(document, dict) or not isinstance(document.get("settings"), list):
        raise RequestError(f'the plan "{file}" has no settings: write one [[settings]] table for each.')
    shared = dict(defaults or {})
    for name, value in document.items():
        if name not in Plan.model_fields:
            shared[name] = value
    entries = []
    for entry in document["settings"]:
        # An entry that is not a table is passed on, because the error of `plan_of` says which one it is.
        entries.append({**shared, **entry} if isinstance(entry, dict) else entry)
    further = {name: document[name] for name in ("ranges", "free", "window") if name in document}
    return plan_of(entries, f'the plan "{file}"', further)


def plan_of(entries: Sequence[Any], what: str = "the plan", further: Mapping[str, Any] | None = None) -> Plan:
    """Check the fields of settings, and further ones of a plan, and make it. Raises RequestError for a wrong entry."""
    try:
        return Plan.model_validate({**(further or {}), "settings": entries})
    except ValidationError as error:
        first = error.errors()[0]
        location = ".".join(map(str, first["loc"]))
        raise RequestError(f"{what} is not valid: {location}: {first['msg'].removeprefix('Value error, ')}.") from error
