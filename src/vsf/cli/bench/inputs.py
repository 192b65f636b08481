"""The flags of `vsf bench`, turned into what the benchmark works with."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from vsf import tiny
from vsf.cli import inputs, method_grammar
from vsf.errors import RequestError
from vsf.families.catalogue import presets
from vsf.generation.request import DEVICE, full_dtype

if TYPE_CHECKING:
    from vsf.bench.plan import Plan, Setting
    from vsf.bench.run.batch import Conditions
    from vsf.bench.run.draw import Engine, Task
    from vsf.bench.suites.write import Author
    from vsf.judges.base import Judge

DEFAULTS: dict[str, Any] = {
    "model": "tiny",
    "methods": "none,vsf",
    "steps": 8,
    "seeds": 2,
    "dtype": "auto",
    "device": "auto",
    "engine": "local",
    "address": "auto",
    "judge": "scenes",
    "judge_device": "auto",
    "concurrency": 8,
    "timeout": 90.0,
    "trials": 40,
    "knob": "scale",
    "keep": 6,
}
KEY_ENV = "OPENAI_API_KEY"
LARGEST: dict[str, int] = {"steps": 1000, "seeds": 10_000, "batch": 1024, "threads": 1024, "concurrency": 256}
LONGEST_WAIT = 86_400.0  # seconds


class Given:
    """The flags of one call, those left out at their defaults."""

    def __init__(self, flags: Mapping[str, Any]) -> None:
        self.flags = {**DEFAULTS, **{name: value for name, value in flags.items() if value is not None}}
        self.quiet = bool(self.flags.get("json"))
        for name in (
            "steps",
            "seeds",
            "prompts",
            "limit",
            "frames",
            "batch",
            "threads",
            "workers",
            "concurrency",
            "trials",
            "keep",
        ):
            value, most = self.flags.get(name), LARGEST.get(name, 1_000_000)
            if value is not None and not 1 <= value <= most:
                raise RequestError(f"--{name} has to be a whole number from 1 to {most}, got {value}.")
        if not 0 < (timeout := self.flags["timeout"]) <= LONGEST_WAIT:
            raise RequestError(f"--timeout is in seconds, more than 0 and at most {LONGEST_WAIT:g}, got {timeout:g}.")
        kept = self.flags.get("kept")
        if kept is not None and not 0 <= kept <= 1:
            raise RequestError(f"--kept is a positive score, from 0 to 1, got {kept:g}.")

    def __getitem__(self, name: str) -> Any:
        return self.flags.get(name)

    def folder(self) -> Path:
        """Where rows and verdicts are. Raises RequestError when it was left out."""
        if not self["out"]:
            raise RequestError("no folder: say with --out where rows and images are, or are to be.")
        return Path(self["out"]).expanduser()

    def task(self, folder: Path) -> Task:
        """What to draw. Raises RequestError and UnknownNameError."""
        from vsf.bench.run.draw import Task
        from vsf.bench.suites import load as suites

        if not self["suite"]:
            raise RequestError(f"no suite: give one with --suite: {', '.join(suites.names())}, or a file of pairs.")
        pairs = suites.load(self["suite"])[: self["prompts"]]
        return Task(self.plan.settings, pairs, range(self["seeds"]), self.conditions(folder))

    @cached_property
    def plan(self) -> Plan:
        """The settings that --methods names, or a whole plan. Raises RequestError and UnknownNameError."""
        from vsf.bench import plan

        written = self["methods"]
        if Path(written).suffix in (".toml", ".json"):
            return plan.read(Path(written), {"steps": self["steps"]})
        entries = [
            {"label": spec, "steps": self["steps"], **self._method(spec)} for spec in method_grammar.split(written)
        ]
        return plan.plan_of(entries, "--methods")

    def _method(self, spec: str) -> dict[str, Any]:
        """The method and knobs of one spec; presets are looked up under the name of the model."""
        fields = method_grammar.parse(spec)
        preset = fields.pop("preset", None)
        published = dict(presets.find(self["model"], fields["method"], preset).knobs) if preset else {}
        return {"method": fields["method"], "knobs": {**published, **fields["knobs"]}}

    def conditions(self, folder: Path) -> Conditions:
        """What all rows of a folder share; batch and threads are those of its earlier runs unless they are given."""
        from vsf.bench.run.batch import Conditions
        from vsf.bench.run.manifest import manifest

        if not DEVICE.fullmatch(self["device"]):
            raise RequestError(f'--device is cpu, cuda, cuda:N, mps or auto, got "{self["device"]}".')
        there = manifest(folder)
        earlier = there.conditions if there else None
        share = max(1, torch.get_num_threads() // (self["workers"] or 1))
        return Conditions(
            model=self["model"],
            size=inputs.parse_size(self["size"]) if self["size"] else None,
            frames=self["frames"],
            dtype=full_dtype(self["dtype"]),
            device=self["device"],
            batch=self["batch"] or (earlier.batch if earlier else 32 if self["model"] in tiny.MODELS else 1),
            threads=self["threads"] or (earlier.threads if earlier else share),
        )

    def engine(self, conditions: Conditions) -> Engine:
        """Where drawing runs. Raises RequestError for an engine that there is not."""
        if self["engine"] == "ray":
            from vsf.engines.ray import RayCluster

            return RayCluster(self["address"], self["workers"], conditions.threads)
        if self["engine"] != "local":
            raise RequestError(f'--engine is local or ray, got "{self["engine"]}".')
        return self._local(self["workers"] or 1)

    def judging_engine(self, judge: Judge) -> Engine:
        """Where judging runs: in threads when the judge waits for a network."""
        from vsf.engines import Threads

        return Threads(self["concurrency"]) if judge.waits else self._local(self["workers"] or 1)

    def judge(self) -> Judge:
        """The judge that was asked for. Raises UnknownNameError and RequestError."""
        from vsf.judges.registry import JUDGES, Options

        if not DEVICE.fullmatch(self["judge_device"]):
            raise RequestError(f'--judge-device is cpu, cuda, cuda:N, mps or auto, got "{self["judge_device"]}".')
        options = Options(
            model=self["judge_model"],
            endpoint=self["endpoint"],
            key=self.key(),
            prices=_numbers("price", self["price"]) if self["price"] else None,
            cache=Path(self["out"]).expanduser() / "answers" if self["out"] else None,
            timeout=self["timeout"],
            device=self["judge_device"],
        )
        return JUDGES[self["judge"]](options)

    def author(self) -> Author:
        """The language model that writes pairs. Raises RequestError when none is named."""
        from vsf.bench.suites.write import Author

        if not self["writer"]:
            raise RequestError("no model to write pairs: name one with --writer.")
        return Author(self["writer"], self["endpoint"], self.key(), self["batch"])

    def key(self) -> str:
        """Read the API key from the environment; empty if there is none, since many endpoints need none.

        Raises:
            RequestError: --key-env names a variable that is not set.
        """
        name = self["key_env"]
        key = os.environ.get(name or KEY_ENV, "")
        if name and not key:
            raise RequestError(f'--key-env names the environment variable "{name}", which is not set or empty.')
        return key

    def curves(self, task: Task) -> list[list[Setting]]:
        """The strengths of each setting of a frontier. Raises RequestError and KnobError."""
        from vsf.bench.sweep import grid

        asked = _numbers("range", self["range"]) if self["range"] else None
        return [
            grid(setting, self["knob"], self["frontier"], asked or self.plan.ranges.get(setting.label))
            for setting in task.settings
        ]

    @staticmethod
    def _local(workers: int) -> Engine:
        from vsf.engines import InProcess, Processes

        return InProcess() if workers == 1 else Processes(workers)


def _numbers(name: str, written: str) -> tuple[float, float]:
    try:
        first, second = (float(part) for part in written.split(","))
    except ValueError as error:
        raise RequestError(f'--{name} has to be two numbers with a comma between them, got "{written}".') from error
    return first, second
