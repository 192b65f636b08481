"""What a benchmark compares: settings by label, written in a plan file or frozen by a sweep."""

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
    """A method with its knobs and the run of the model around it: one line of the result table.

    `strength` is the swept number where the setting is a point of a trade-off curve. `negative` says who gets the
    negative prompt: the method, or the pipeline's own classifier-free guidance. `model` replaces the run's model, so
    that a base model at 28 steps can stand in the same table. Knobs left out have their defaults. `method` may also be
    one of the benchmark's own ablations. `within` "subject" reads the negative as a part of what the prompt is about
    (`vsf.text.context.belonging`).
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
        """Undo what JSON, which has no infinity, made of one."""
        if not isinstance(knobs, dict):
            return knobs
        return {name: float(value) if value in ("inf", "-inf") else value for name, value in knobs.items()}

    @field_serializer("knobs", when_used="json")
    def _write_infinity(self, knobs: dict[str, Any]) -> Any:
        return provenance.portable(knobs)

    @model_validator(mode="after")
    def _check(self) -> Setting:
        try:
            self.guidance()
            self.when()
        except VsfError as error:
            raise ValueError(f'"{self.label}": {error}') from error
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
        """The method, or ablation, with its knobs set; raises UnknownNameError and KnobError."""
        return ablations.method(self.method, **self.knobs)

    def when(self) -> Schedule:
        """In which steps and layers the method acts; raises KnobError."""
        try:
            return Schedule(**self.schedule)  # type: ignore[arg-type]
        except TypeError as error:
            raise RequestError(f"a schedule has start, end, curve and layers, got {dict(self.schedule)}.") from error

    def identity(self) -> dict[str, Any]:
        """Everything that makes an image of this setting what it is, defaults of the knobs included; fit for JSON."""
        method = self.guidance()
        knobs = method.knob_values()
        fields = self.model_dump(exclude={"model"})
        return dict(provenance.portable({**fields, "knobs": knobs}))


class Plan(BaseModel):
    """Settings with distinct labels.

    `ranges`, by label, are the strengths from low to high between which a frontier of the setting is swept.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    settings: tuple[Setting, ...] = Field(min_length=1)
    ranges: dict[str, tuple[float, float]] = {}

    @model_validator(mode="after")
    def _check_labels(self) -> Plan:
        twice = [label for label, count in Counter(setting.label for setting in self.settings).items() if count > 1]
        if twice:
            raise ValueError(f"labels have to differ, but {', '.join(twice)} stands there more than once")
        if unknown := self.ranges.keys() - {setting.label for setting in self.settings}:
            raise ValueError(f"there are ranges for {', '.join(sorted(unknown))}, but no such settings")
        return self


def read(file: Path, defaults: Mapping[str, Any] | None = None) -> Plan:
    """A plan from TOML or JSON: `[[settings]]` with the fields of Setting; fields at the top hold for all of them.

    A table `[ranges]` has the range of a setting's strengths under its label, such as `vsf = [0.5, 4.0]`.

    `defaults` stand in for what the file leaves out.

    Raises:
        RequestError: the file cannot be read or is not a plan.
    """
    try:
        text = file.read_text(encoding="utf-8")
        document = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise RequestError(f'cannot read the plan "{file}": {getattr(error, "strerror", None) or error}.') from error
    if not isinstance(document, dict) or not isinstance(document.get("settings"), list):
        raise RequestError(f'the plan "{file}" has no settings: write one [[settings]] table for each.')
    shared = {**(defaults or {}), **{name: value for name, value in document.items() if name not in Plan.model_fields}}
    entries = [{**shared, **entry} if isinstance(entry, dict) else entry for entry in document["settings"]]
    return plan_of(entries, f'the plan "{file}"', document.get("ranges", {}))


def plan_of(entries: Sequence[Any], what: str = "the plan", ranges: Any = None) -> Plan:
    """A checked plan; raises RequestError that says what is wrong with which entry."""
    try:
        return Plan.model_validate({"settings": entries, "ranges": ranges or {}})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise RequestError(f"{what} is not valid: {place}: {first['msg'].removeprefix('Value error, ')}.") from error


def preset(name: str) -> tuple[str, dict[str, Any]]:
    """The method and knobs behind a name that is a method's own or that of a published setting, such as nag++.

    Raises UnknownNameError.
    """
    if name not in guidance.METHODS:
        for method, cls in guidance.METHODS.items():
            if name in (published := cls.PRESETS):
                return method, dict(published[name])
    guidance.METHODS[name]
    return name, {}
