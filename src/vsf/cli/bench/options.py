"""The options of the `vsf bench` commands: one dataclass per command, from which flags, help and defaults derive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from inspect import Parameter
from typing import Any, TypeVar

from vsf.cli.options import JSON_HELP, argument, flags_of
from vsf.engines.registry import ENGINES
from vsf.errors import RequestError
from vsf.judges.base import JudgeOptions
from vsf.judges.openai import EndpointOptions
from vsf.judges.registry import JUDGES
from vsf.options import option

Options = TypeVar("Options")


def count_option(default: int | None, text: str, *, high: int = 1_000_000, shown: str | None = None) -> Any:
    """Declare an option that is a whole number from 1."""
    return option(text, default=default, low=1, high=high, shown=shown)


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """Base of the options of each command.

    Raises:
        RequestError: A number is out of range.
    """

    def __post_init__(self) -> None:
        for declared in fields(self):
            low = declared.metadata.get("low")
            high = declared.metadata.get("high")
            value = getattr(self, declared.name)
            if low is not None and value is not None and not low <= value <= high:
                raise RequestError(f"--{declared.name} has to be a whole number from {low} to {high}, got {value}.")


@dataclass(frozen=True, kw_only=True)
class TaskOptions(BenchOptions):
    """Options of the commands that draw."""

    suite: str | None = option("A shipped suite, or a JSON or JSONL file of pairs.")
    model: str = option("An embedded model, a folder, a checkpoint or a hub id (id@revision).", default="tiny")
    methods: str = option(
        "none,nag++,vsf:scale=2,offset=.5,vsf:preset=strong, or a .toml or .json plan.", default="none,vsf"
    )
    steps: int = count_option(8, "Denoising steps, where a plan does not say.", high=1000)
    seeds: int = count_option(2, "Images of each pair and setting.", high=10_000)
    prompts: int | None = count_option(None, "The first so many pairs of the suite; all if not given.")
    harmless: int | None = count_option(
        None, "Draw so many pairs more whose negative names what the picture does not show.", shown="none"
    )
    size: str | None = option("Side, or WIDTHxHEIGHT, in pixels. Left to the model if not given.")
    frames: int | None = count_option(None, "Length of a clip, for video models; four of them are kept and judged.")
    dtype: str = option("auto, float32, float16 or bfloat16.", default="auto")
    device: str = option("cpu, cuda, cuda:1, mps, or auto.", default="auto")
    batch: int | None = count_option(
        None, "Prompts drawn at a time.", shown="32 on embedded models, 1 on others", high=1024
    )
    threads: int | None = count_option(
        None, "CPU threads of each worker.", shown="all of the machine, shared among them", high=1024
    )
    engine: str = option(f"{' or '.join(ENGINES)}.", default="local")
    workers: int | None = count_option(
        None, "Processes, or actors.", shown="1 process, or all actors that the cluster has room for"
    )
    address: str = option("Of the Ray cluster, as ray.init takes it.", default="auto")


@dataclass(frozen=True, kw_only=True)
class JudgingOptions(BenchOptions):
    """Options of the commands that judge; each judge declares further ones itself, see `judge_flags`."""

    judge: str = option(f"One of {', '.join(JUDGES)}; see vsf list judges.", default="scenes")
    concurrency: int = count_option(8, "Calls at a time to a judge behind a network.", high=256)
    judge_flags: Mapping[str, Any] = field(default_factory=dict)
    """The values of `judge_flags()`, by name."""


_LIMIT = "Stop after so many images; the same command goes on with the rest."
_DRY_RUN = "Only say how many images there are to do, and from those done so far how long or how dear that is."
_OUT = "The folder of images, rows and verdicts; the same command goes on where it stopped."


@dataclass(frozen=True, kw_only=True)
class RunOptions(TaskOptions):
    """Options of `vsf bench run`."""

    limit: int | None = count_option(None, _LIMIT)
    dry_run: bool = option(_DRY_RUN, default=False)
    out: str | None = option(_OUT)
    json: bool = option(JSON_HELP, default=False)


@dataclass(frozen=True, kw_only=True)
class JudgeCommandOptions(JudgingOptions):
    """Options of `vsf bench judge`."""

    workers: int = count_option(1, "Processes, for a judge that computes here.")
    limit: int | None = count_option(None, _LIMIT)
    dry_run: bool = option(_DRY_RUN, default=False)
    out: str | None = option(_OUT)
    json: bool = option(JSON_HELP, default=False)


@dataclass(frozen=True, kw_only=True)
class SweepOptions(TaskOptions, JudgingOptions):
    """Options of `vsf bench sweep`."""

    frontier: int = count_option(20, "Strengths of each setting, from low to high.", high=1000)
    knob: str = option("The knob that is its strength.", default="scale")
    range: str | None = option("Its strengths, LOW,HIGH.", shown="the plan's, or all that the knob allows")
    keep: int = count_option(6, "The strengths nearest the frontier that are frozen.")
    kept: float | None = option("A positive score; what keeps it is frozen in matched.json, too.")
    out: str | None = option(_OUT)
    json: bool = option(JSON_HELP, default=False)

    def __post_init__(self) -> None:
        BenchOptions.__post_init__(self)
        _check_kept(self.kept)


@dataclass(frozen=True, kw_only=True)
class FactorialOptions(TaskOptions, JudgingOptions):
    """Options of `vsf bench factorial`."""

    seeds: int = count_option(1, "Images of each pair and setting.", high=10_000)
    rounds: str = option(
        "Settings tried in each cell, times prompts, round by round; the best go on.", default="16x100,4x400,1x1000"
    )
    dry_run: bool = option(_DRY_RUN, default=False)
    out: str | None = option(_OUT)
    json: bool = option(JSON_HELP, default=False)


@dataclass(frozen=True, kw_only=True)
class MeasureOptions(BenchOptions):
    """Options of `vsf bench measure`."""

    metric: str = option("The metric: change, or that of an installed package.", default="change")
    out: str | None = option(_OUT)
    json: bool = option(JSON_HELP, default=False)


@dataclass(frozen=True, kw_only=True)
class OnceOptions(TaskOptions, JudgingOptions):
    """Options of `vsf bench once`."""

    out: str | None = option(_OUT)
    json: bool = option(JSON_HELP, default=False)


@dataclass(frozen=True, kw_only=True)
class ReportCommandOptions(BenchOptions):
    """Options of `vsf bench report`."""

    folder: str = argument("A folder of rows and verdicts.", required=True)
    dev: str | None = option(
        "A folder of the same settings on dev prompts, on which strengths are matched.", metavar="DIR"
    )
    out: str | None = option("Where the report goes; into the folder itself if not given.", metavar="DIR")
    also: list[str] | None = option("The same settings on another student; may be repeated.", metavar="DIR")
    judge: list[str] | None = option(
        "Whose verdicts count, such as openai:MODEL; repeated, conclusions are drawn under each.", metavar="NAME"
    )
    kept: float = option("The positive score at which methods are compared.", default=0.9)
    reference: str = option("The setting that the others are compared with; the first of vsf if not given.", default="")
    images: bool = option("Write report/images.jsonl, too: one line per image, its row and verdict.", default=False)
    json: bool = option(JSON_HELP, default=False)

    def __post_init__(self) -> None:
        _check_kept(self.kept)


@dataclass(frozen=True, kw_only=True)
class StudyOptions(BenchOptions):
    """Options of `vsf bench study`."""

    folder: str = argument("A folder of rows and images.", required=True)
    study: str = argument("The folder of the study: new, or one whose sheet was filled in.", required=True)
    count: int = count_option(100, "Pictures to show.")
    label: list[str] | None = option("A setting to show pictures of; may be repeated. All if not given.")
    seed: int = option("Decides which pictures, and their order.", default=0)
    answers_of: str | None = option("The name of the person who filled in the sheet, to read it.", metavar="NAME")
    json: bool = option(JSON_HELP, default=False)


@dataclass(frozen=True, kw_only=True)
class NewSuiteOptions(BenchOptions, EndpointOptions):
    """Options of `vsf bench new-suite`."""

    file: str = argument("The JSONL file to fill.", required=True)
    count: int = option("How many pairs it is to hold.", default=100)
    writer: str | None = option("The language model that writes them.")
    batch: int = count_option(10, "Pairs to a request.", high=1024)
    against: list[str] | None = option("A suite whose pairs are not to be repeated; may be repeated.", metavar="SUITE")
    json: bool = option(JSON_HELP, default=False)

    def __post_init__(self) -> None:
        BenchOptions.__post_init__(self)
        EndpointOptions.__post_init__(self)


def judge_flags() -> list[Parameter]:
    """Make the flags that the judges declare; one that several judges share stands there once."""
    # Judges that ask a language model declare the same flags, such as --judge-model.
    by_name: dict[str, Parameter] = {}
    for options in JUDGES.values():
        for parameter in flags_of(options, rich_help_panel="Options of the judges"):
            by_name.setdefault(parameter.name, parameter)
    return list(by_name.values())


def read_judge_options(name: str, flags: Mapping[str, Any]) -> JudgeOptions:
    """Make the options of a judge. Those of every judge are checked, as a wrong flag is wrong whoever is asked.

    Raises:
        UnknownNameError: There is no such judge.
        RequestError: A flag is wrong.
    """
    JUDGES[name]  # raises with a suggestion, before a flag is found wrong
    by_judge: dict[str, JudgeOptions] = {}
    for judge, options in JUDGES.items():
        own_names = {declared.name for declared in fields(options)}
        by_judge[judge] = options(**{flag: value for flag, value in flags.items() if flag in own_names})
    return by_judge[name]


def _check_kept(kept: float | None) -> None:
    if kept is not None and not 0 <= kept <= 1:
        raise RequestError(f"--kept is a positive score, from 0 to 1, got {kept:g}.")
