"""The options of the `vsf bench` commands: one dataclass per command, from which flags, help and defaults derive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from inspect import Parameter
from typing import Any, TypeVar, get_type_hints

from vsf.cli.options import flag
from vsf.engines.registry import ENGINES
from vsf.errors import RequestError
from vsf.judges.base import JudgeOptions, option
from vsf.judges.openai import EndpointOptions
from vsf.judges.registry import JUDGES

Options = TypeVar("Options")


def count_option(default: int | None, text: str, *, high: int = 1_000_000, shown: str | None = None) -> Any:
    """Declare an option that is a whole number from 1."""
    return option(default, text, low=1, high=high, shown=shown)


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """Base of the options of each command.

    Raises:
        RequestError: A number is out of range.
    """

    def __post_init__(self) -> None:
        for field in fields(self):
            low = field.metadata["low"]
            high = field.metadata["high"]
            value = getattr(self, field.name)
            if low is not None and value is not None and not low <= value <= high:
                raise RequestError(f"--{field.name} has to be a whole number from {low} to {high}, got {value}.")


@dataclass(frozen=True, kw_only=True)
class DrawingOptions(BenchOptions):
    """Options of the commands that draw."""

    suite: str | None = option(None, "A shipped suite, or a JSON or JSONL file of pairs.")
    model: str = option("tiny", "An embedded model, a folder, a checkpoint or a hub id (id@revision).")
    methods: str = option("none,vsf", "none,nag++,vsf:scale=2,offset=.5,vsf:preset=strong, or a .toml or .json plan.")
    steps: int = count_option(8, "Denoising steps, where a plan does not say.", high=1000)
    seeds: int = count_option(2, "Images of each pair and setting.", high=10_000)
    prompts: int | None = count_option(None, "The first so many pairs of the suite; all if not given.")
    size: str | None = option(None, "Side, or WIDTHxHEIGHT, in pixels. Left to the model if not given.")
    frames: int | None = count_option(None, "Length of a clip, for video models; four of them are kept and judged.")
    dtype: str = option("auto", "auto, float32, float16 or bfloat16.")
    device: str = option("auto", "cpu, cuda, cuda:1, mps, or auto.")
    batch: int | None = count_option(
        None, "Prompts drawn at a time.", shown="32 on embedded models, 1 on others", high=1024
    )
    threads: int | None = count_option(
        None, "CPU threads of each worker.", shown="all of the machine, shared among them", high=1024
    )
    engine: str = option("local", f"{' or '.join(ENGINES)}.")
    workers: int | None = count_option(
        None, "Processes, or actors.", shown="1 process, or all actors that the cluster has room for"
    )
    address: str = option("auto", "Of the Ray cluster, as ray.init takes it.")


@dataclass(frozen=True, kw_only=True)
class JudgingOptions(BenchOptions):
    """Options of the commands that judge; each judge declares further ones itself, see `judge_flags`."""

    judge: str = option("scenes", f"One of {', '.join(JUDGES)}; see vsf list judges.")
    concurrency: int = count_option(8, "Calls at a time to a judge behind a network.", high=256)


_LIMIT = "Stop after so many images; the same command goes on with the rest."
_DRY_RUN = "Only say how many images there are to do, and from those done so far how long or how dear that is."
_OUT = "The folder of images, rows and verdicts; the same command goes on where it stopped."
_JSON = "Print one JSON document, and no progress."


@dataclass(frozen=True, kw_only=True)
class RunOptions(DrawingOptions):
    """Options of `vsf bench run`."""

    limit: int | None = count_option(None, _LIMIT)
    dry_run: bool = option(False, _DRY_RUN)
    out: str | None = option(None, _OUT)
    json: bool = option(False, _JSON)


@dataclass(frozen=True, kw_only=True)
class JudgeCommandOptions(JudgingOptions):
    """Options of `vsf bench judge`."""

    workers: int = count_option(1, "Processes, for a judge that computes here.")
    limit: int | None = count_option(None, _LIMIT)
    dry_run: bool = option(False, _DRY_RUN)
    out: str | None = option(None, _OUT)
    json: bool = option(False, _JSON)


@dataclass(frozen=True, kw_only=True)
class SweepOptions(DrawingOptions, JudgingOptions):
    """Options of `vsf bench sweep`."""

    trials: int = count_option(40, "Settings tried of each method; knobs named in --methods stay fixed.")
    frontier: int | None = option(None, "Instead of a search: so many strengths of each setting, from low to high.")
    knob: str = option("scale", "With --frontier: the knob that is its strength.")
    range: str | None = option(
        None, "With --frontier: its strengths, LOW,HIGH.", shown="the plan's, or all that the knob allows"
    )
    keep: int = count_option(6, "With --frontier: the strengths nearest the frontier that are frozen.")
    kept: float | None = option(
        None, "With --frontier: a positive score; what keeps it is frozen in matched.json, too."
    )
    out: str | None = option(None, _OUT)
    json: bool = option(False, _JSON)

    def __post_init__(self) -> None:
        BenchOptions.__post_init__(self)
        _check_kept(self.kept)
        if self.kept is not None and not self.frontier:
            raise RequestError("--kept goes with --frontier: without it there are no curves to compare.")


@dataclass(frozen=True, kw_only=True)
class ReportCommandOptions(BenchOptions):
    """Options of `vsf bench report`."""

    dev: str | None = option(
        None, "A folder of the same settings on dev prompts, on which strengths are matched.", metavar="DIR"
    )
    out: str | None = option(None, "Where the report goes; into the folder itself if not given.", metavar="DIR")
    judge: str | None = option(None, "Whose verdicts count, where there are several: a name such as openai:MODEL.")
    kept: float = option(0.9, "The positive score at which methods are compared.")
    reference: str = option("", "The setting that the others are compared with; the first of vsf if not given.")
    images: bool = option(False, "Write report/images.jsonl, too: one line per image, its row and verdict.")
    json: bool = option(False, _JSON)

    def __post_init__(self) -> None:
        _check_kept(self.kept)


@dataclass(frozen=True, kw_only=True)
class NewSuiteOptions(BenchOptions, EndpointOptions):
    """Options of `vsf bench new-suite`."""

    count: int = option(100, "How many pairs it is to hold.")
    writer: str | None = option(None, "The language model that writes them.")
    batch: int = count_option(10, "Pairs to a request.", high=1024)
    against: list[str] | None = option(
        None, "A suite whose pairs are not to be repeated; may be repeated.", metavar="SUITE"
    )
    json: bool = option(False, _JSON)

    def __post_init__(self) -> None:
        BenchOptions.__post_init__(self)
        EndpointOptions.__post_init__(self)


def flags_of(options: type[Any], **settings: Any) -> list[Parameter]:
    """Make the flag of each option; one that is not given is None.

    Args:
        options: A dataclass whose fields are declared with `option`.
        settings: Further settings of typer for all flags.
    """
    # The fields themselves hold their annotations as strings.
    hints = get_type_hints(options)
    flags = []
    for field in fields(options):
        own_settings = {**settings, "metavar": field.metadata["metavar"]}
        default = field.metadata["shown"] or field.default
        if hints[field.name] is bool:
            own_settings["spelled"] = "--" + field.name.replace("_", "-")  # typer would add a --no- form
            default = None
        flags.append(flag(field.name, hints[field.name], field.metadata["help"], default=default, **own_settings))
    return flags


def judge_flags() -> list[Parameter]:
    """Make the flags that the judges declare; one that several judges share stands there once."""
    # Judges that ask a language model declare the same flags, such as --judge-model.
    by_name: dict[str, Parameter] = {}
    for options in JUDGES.values():
        for parameter in flags_of(options, rich_help_panel="Options of the judges"):
            by_name.setdefault(parameter.name, parameter)
    return list(by_name.values())


def read(options: type[Options], flags: Mapping[str, Any]) -> Options:
    """Make options from the flags of one call, which may hold those of other options, too. Raises RequestError."""
    names = {field.name for field in fields(options)}  # type: ignore[arg-type]
    values = {name: value for name, value in flags.items() if name in names and value is not None}
    return options(**values)


def read_judge_options(name: str, flags: Mapping[str, Any]) -> JudgeOptions:
    """Make the options of a judge. Those of every judge are checked, as a wrong flag is wrong whoever is asked.

    Raises:
        UnknownNameError: There is no such judge.
        RequestError: A flag is wrong.
    """
    JUDGES[name]  # raises with a suggestion, before a flag is found wrong
    by_judge = {judge: read(options, flags) for judge, options in JUDGES.items()}
    return by_judge[name]


def _check_kept(kept: float | None) -> None:
    if kept is not None and not 0 <= kept <= 1:
        raise RequestError(f"--kept is a positive score, from 0 to 1, got {kept:g}.")
