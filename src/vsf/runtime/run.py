"""One call of a guided pipeline: what it was asked for, and what its denoiser calls have to know."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor

from vsf.controls.region import Region
from vsf.controls.schedule import Schedule
from vsf.errors import KnobError, NotGuidedError, PromptError
from vsf.families.base.branches import Branches
from vsf.families.base.family import Family
from vsf.guidance import Guidance, Unguided
from vsf.runtime.auto_scaler import Pace
from vsf.runtime.cfg_rows import CfgRows
from vsf.runtime.report import Report
from vsf.runtime.second_pass import conditions_of
from vsf.text.embeddings import Negative, NegativeRows
from vsf.text.token_weights import Wording

_RUN: ContextVar["Run | None"] = ContextVar("vsf_run", default=None)


@dataclass(frozen=True, slots=True, eq=False)
class Settings:
    """What is guided, and how. `pipe` is None for a denoiser on its own. observe: whether somebody asks to."""

    family: Family
    pipe: Any
    method: Guidance
    schedule: Schedule
    region: Region | None
    observe: bool = False

    @property
    def observes(self) -> bool:
        """Whether what the method does is noted in every layer; a scale that follows the attention needs it."""
        return self.observe or self.method.is_auto

    @property
    def needs_grid(self) -> bool:
        """Whether it has to be known how image tokens lie in the picture."""
        return self.observes or self.region is not None

    @property
    def follows_steps(self) -> bool:
        """Whether the schedule is not the same in all steps."""
        return (self.schedule.start, self.schedule.end, self.schedule.curve) != (0, 1, "constant")


@dataclass(frozen=True, slots=True, eq=False)
class Texts:
    """The negatives, and the weights of words of the positive prompt."""

    negative: Negative | None = None
    wording: Wording | None = None

    def act(self, method: Guidance) -> bool:
        """Whether there is anything to guide away from, or a word to weigh."""
        negative = self.negative
        guides = negative is not None and any(negative.lengths) and not isinstance(method, Unguided)
        return negative is not None and (guides or bool(self.wording))


class Run:
    """One call of a pipeline, or all calls of a denoiser that is guided on its own.

    arguments: what the pipeline is called with, None for a denoiser on its own. pace: to go on with, for a denoiser
    whose calls are guided one by one.
    Raises PromptError when negatives or weights of words do not fit the prompts.
    """

    def __init__(
        self,
        settings: Settings,
        report: Report,
        texts: Texts,
        arguments: Mapping[str, Any] | None = None,
        pace: Pace | None = None,
    ) -> None:
        self.settings, self.report, self.texts = settings, report, texts
        if pace is None and settings.method.is_auto:
            pace = Pace(settings.method)
        self.pace = pace
        self.rows = CfgRows(settings.family, settings.pipe, arguments)
        self.is_catching = False
        self.second: dict[str, Any] = {}
        self._branches: dict[object, Branches] = {}
        self._laid_out: tuple[object, NegativeRows] | None = None
        self._weighed: tuple[object, tuple[Tensor | None, ...]] | None = None
        self._calls_before = report.calls
        self._first_timestep: Any = None
        negative, prompts = texts.negative, self.rows.prompts
        if negative is not None and prompts is not None and len(negative) not in (1, prompts):
            raise PromptError(f"{len(negative)} negatives for {prompts} prompts: give one, or one for each")
        if texts.wording is not None and arguments is not None:
            texts.wording.check(arguments.get("prompt"))

    @cached_property
    def acts(self) -> bool:
        """Whether denoiser calls are to be guided."""
        return self.texts.act(self.settings.method)

    @property
    def negative(self) -> Negative:
        """The negatives; only where `acts`."""
        assert self.texts.negative is not None
        return self.texts.negative

    def laid_out(self, owners: Sequence[int | None], like: Tensor, multiple: int) -> NegativeRows:
        """Return the negatives for these rows of a batch, as `Negative.rows` does; mostly those of the step before."""
        shape = (tuple(owners), like.dtype, like.device, like.shape[-1], multiple)
        if self._laid_out is None or self._laid_out[0] != shape:
            self._laid_out = shape, self.negative.rows(owners, like=like, multiple=multiple)
        return self._laid_out[1]

    def emphasis(self, owners: Sequence[int | None], tokens: int, like: Tensor) -> tuple[Tensor | None, ...] | None:
        """Return the weights of each row's positive tokens, as `Wording.rows` does; mostly those of the step before."""
        wording = self.texts.wording
        if wording is None:
            return None
        shape = (tuple(owners), tokens, like.device)
        if self._weighed is None or self._weighed[0] != shape:
            self._weighed = shape, wording.rows(owners, tokens, like=like)
        return self._weighed[1]

    def branches_of(self, denoiser: object) -> Branches:
        """Return what tells the calls of one of the pipeline's denoisers apart."""
        return self._branches.setdefault(denoiser, Branches())

    def strength(self, arguments: Mapping[str, Any]) -> float:
        """Return how strongly the method acts on a denoiser call with these arguments. Raises KnobError."""
        settings = self.settings
        if not settings.follows_steps:
            return 1.0
        timestep = arguments.get("timestep")
        if self._first_timestep is None:
            self._first_timestep = timestep
        done = settings.family.fraction_done(settings.pipe, settings.schedule.over, timestep, self._first_timestep)
        return settings.schedule.strength(done)

    def catch_second(self, call: Callable[..., Any], pipe: Any, arguments: Mapping[str, Any]) -> None:
        """Find the denoiser's arguments for the negative prompts. Raises KnobError unless they are one text each."""
        texts = self.negative.texts
        if not texts or not self.negative.is_plain:
            raise KnobError(
                f'method "{self.settings.method.name}" calls the model with the negative prompt in the place of the '
                "positive one, so it needs its text (from negative_prompt= or vsf.encode), one of weight 1 for each "
                "prompt"
            )
        prompts = self.rows.prompts or 1
        negatives = [of_prompt[0] if of_prompt else "" for of_prompt in texts] * prompts
        self.is_catching = True
        try:
            self.second = conditions_of(call, pipe, arguments, negatives[:prompts], self.settings.family.conditions)
        finally:
            self.is_catching = False

    def calls_twice(self) -> bool:
        """Whether the method calls the model a second time in each step."""
        return self.acts and self.settings.method.model_calls == 2

    def finished_step(self, layers: Sequence[str], *, compiled: bool) -> None:
        """Count a denoiser call. Raises NotGuidedError when no attention call of this run was guided."""
        self.report.steps += 1
        self.report.compiled |= compiled
        if self.pace is not None:
            self.report.scales.append(self.pace.finish_step())
        if self.report.calls == self._calls_before and not compiled:
            raise NotGuidedError(
                "a negative prompt was given, but no attention call of the denoiser was guided: "
                f"none of {', '.join(layers)} attended to image and text as {self.settings.family.name} does"
            )


@contextmanager
def running(run: Run) -> Iterator[None]:
    """Let denoiser calls that this thread makes in the block be those of this run."""
    token = _RUN.set(run)
    try:
        yield
    finally:
        _RUN.reset(token)


def run_of_call(pipe: Any) -> Run | None:
    """Return the run of this pipeline that makes the call in progress, None when something else makes it.

    Inside of a run other pipelines may be called: in a callback, by a hook, or by a pipeline made of pipelines. So the
    nearest pipeline on the stack has to be the guided one. Suspending the run while the user's callbacks are called
    would not see the others, and which parameters are callbacks differs between pipelines.
    """
    run = _RUN.get()
    return run if run is not None and run.settings.pipe is pipe and _calling_pipeline(pipe) is pipe else None


def _calling_pipeline(guided: Any) -> Any:
    """Return the nearest pipeline on the stack: what the first argument of a function is."""
    frame = sys._getframe(1)
    while (frame := frame.f_back) is not None:  # type: ignore[assignment]
        code = frame.f_code
        if not code.co_argcount or code.co_name == "<lambda>":
            continue
        first = frame.f_locals.get(code.co_varnames[0])
        if first is guided or _is_pipeline(first):
            return first
    return None


def _is_pipeline(value: object) -> bool:
    return any(cls.__name__ in ("DiffusionPipeline", "ModularPipeline") for cls in type(value).__mro__)
