"""Turn the options of a `vsf bench` command into the objects that the benchmark works with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from vsf import tiny
from vsf.cli import inputs, method_grammar
from vsf.errors import RequestError
from vsf.families.catalogue import presets
from vsf.generation.request import DEVICE, full_dtype
from vsf.judges.openai import number_pair

if TYPE_CHECKING:
    from vsf.bench.plan import Plan, Setting
    from vsf.bench.run.batch import Conditions
    from vsf.bench.run.draw import Task
    from vsf.bench.suites.write import PairWriter
    from vsf.cli.bench.options import NewSuiteOptions, SweepOptions, TaskOptions
    from vsf.engines.base import Engine
    from vsf.judges.base import Judge, JudgeOptions

EMBEDDED_BATCH = 32


def folder_of(out: str | None) -> Path:
    """Return the folder of rows and verdicts. Raises RequestError if none was given."""
    if not out:
        raise RequestError("no folder: say with --out where rows and images are, or are to be.")
    return Path(out).expanduser()


def task_of(options: TaskOptions, folder: Path) -> tuple[Task, Plan]:
    """Make the task of drawing, and the plan that its settings are from. Raises RequestError and UnknownNameError."""
    from vsf.bench.run.draw import Task
    from vsf.bench.suites import load as suites
    from vsf.bench.suites.harmless import harmless

    if not options.suite:
        raise RequestError(f"no suite: give one with --suite: {', '.join(suites.names())}, or a file of pairs.")
    suite = suites.load(options.suite)
    pairs = suite[: options.prompts]
    if options.harmless:
        pairs = [*pairs, *harmless(suite, options.harmless)]
    plan = plan_of(options)
    return Task(plan.settings, pairs, range(options.seeds), conditions_of(options, folder)), plan


def plan_of(options: TaskOptions) -> Plan:
    """Make a plan of the settings that --methods lists, or read the one that it names.

    Raises:
        RequestError: The plan is wrong.
        UnknownNameError: There is no such method or preset.
    """
    from vsf.bench import plan

    file = Path(options.methods)
    if file.suffix in (".toml", ".json"):
        return plan.read(file, {"steps": options.steps})
    entries = []
    for spec in method_grammar.split(options.methods):
        entries.append({"label": spec, "steps": options.steps, **_method(spec, options.model)})
    return plan.plan_of(entries, "--methods")


def conditions_of(options: TaskOptions, folder: Path) -> Conditions:
    """Make the conditions that a folder's rows share; batch and threads are those of its earlier runs unless given."""
    from vsf.bench.run.batch import Conditions
    from vsf.bench.run.manifest import read_manifest

    if not DEVICE.fullmatch(options.device):
        raise RequestError(f'--device is cpu, cuda, cuda:N, mps or auto, got "{options.device}".')
    manifest = read_manifest(folder)
    # Batch and threads decide the last bits of an image, so a run goes on with those that it began with.
    if manifest is not None:
        batch = manifest.conditions.batch
        threads = manifest.conditions.threads
    else:
        batch = EMBEDDED_BATCH if options.model in tiny.MODELS else 1
        threads = max(1, torch.get_num_threads() // (options.workers or 1))
    return Conditions(
        model=options.model,
        size=inputs.parse_size(options.size) if options.size else None,
        frames=options.frames,
        dtype=full_dtype(options.dtype),
        device=options.device,
        batch=options.batch or batch,
        threads=options.threads or threads,
    )


def drawing_engine(options: TaskOptions, conditions: Conditions) -> Engine:
    """Make the engine that draws. Raises RequestError for an unknown one."""
    from vsf.engines.base import EngineOptions
    from vsf.engines.registry import ENGINES

    if options.engine not in ENGINES:
        raise RequestError(f'--engine is {" or ".join(ENGINES)}, got "{options.engine}".')
    resources = EngineOptions(workers=options.workers, threads=conditions.threads, address=options.address)
    return ENGINES[options.engine](resources)


def judging_engine(judge: Judge, workers: int | None, concurrency: int) -> Engine:
    """Make the engine that judges: threads for a judge that waits for a network, or else processes."""
    from vsf.engines.base import EngineOptions
    from vsf.engines.local import Threads, local

    return Threads(concurrency) if judge.waits else local(EngineOptions(workers=workers))


def judge_of(options: JudgeOptions, folder: Path) -> Judge:
    """Make the judge, which keeps answers that cost money in the folder of the run. Raises RequestError."""
    return options.judge(folder / "answers")


def writer_of(options: NewSuiteOptions) -> PairWriter:
    """Make the language model that writes pairs. Raises RequestError if none is named."""
    from vsf.bench.suites.write import PairWriter

    if not options.writer:
        raise RequestError("no model to write pairs: name one with --writer.")
    return PairWriter(options.writer, options.endpoint, options.key(), options.batch)


def curves_of(options: SweepOptions, plan: Plan) -> list[list[Setting]]:
    """Vary each setting of a plan over its strengths. Raises RequestError and KnobError."""
    from vsf.bench.sweep import grid

    bounds = number_pair("--range", options.range) if options.range else None
    curves = []
    for setting in plan.settings:
        setting_bounds = bounds or plan.ranges.get(setting.label)
        curves.append(grid(setting, options.knob, options.frontier, setting_bounds))
    return curves


def _method(spec: str, model: str) -> dict[str, Any]:
    """Read one method with its knobs; its preset is looked up under the name of the model."""
    fields = method_grammar.parse(spec)
    preset = fields.pop("preset", None)
    # Knobs that are written out win over those of the preset.
    preset_knobs = dict(presets.find(model, fields["method"], preset).knobs) if preset else {}
    return {"method": fields["method"], "knobs": {**preset_knobs, **fields["knobs"]}}
