"""The state of one call of a guided pipeline: its arguments, and everything that its denoiser calls share."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Any

from torch import Tensor

from vsf.controls.clock import Clock
from vsf.controls.grid import Grid
from vsf.controls.places import Places
from vsf.controls.region import Region
from vsf.controls.schedule import Schedule
from vsf.errors import KnobError, NotGuidedError, PromptError
from vsf.families.base.branches import Branches
from vsf.families.base.clip import told_rate
from vsf.families.base.family import Family
from vsf.guidance import Guidance
from vsf.patching.hosts import CallArguments, Pipeline
from vsf.runtime.auto_scaler import AutoScaler
from vsf.runtime.cfg_rows import CfgRows
from vsf.runtime.report import Report
from vsf.runtime.second_pass import second_pass_arguments
from vsf.text.embeddings import Negative, NegativeRows
from vsf.text.token_weights import TokenWeights

_RUN: ContextVar["Run | None"] = ContextVar("vsf_run", default=None)
"""The run of this thread; a thread that a pipeline starts of its own begins without one."""


@dataclass(frozen=True, slots=True, eq=False)
class Settings:
    """The settings of a session: the target and the guidance.

    Attributes:
        family: the model architecture.
        pipe: the guided pipeline; None for a denoiser on its own.
        method: the guidance.
        schedule: the steps and layers in which it acts.
        places: where and when it acts, and each negative.
        observe: whether the caller asked to observe the attention.
    """

    family: Family
    pipe: Pipeline | None
    method: Guidance
    schedule: Schedule
    places: Places
    observe: bool = False

    @property
    def observes(self) -> bool:
        """True if the effect is noted in every layer: when requested, and for a scale that follows the attention."""
        return self.observe or self.method.is_auto

    @property
    def needs_grid(self) -> bool:
        """True if the grid of image tokens is needed."""
        return self.observes or self.places.need_grid

    @property
    def follows_steps(self) -> bool:
        """True if the strength differs between steps."""
        return (self.schedule.start, self.schedule.end, self.schedule.curve) != (0, 1, "constant")


@dataclass(frozen=True, slots=True, eq=False)
class Texts:
    """The negatives of a pipeline call, and the weights of words in its positive prompts."""

    negative: Negative | None = None
    token_weights: TokenWeights | None = None

    def act(self, method: Guidance) -> bool:
        """Tell whether there is anything to guide away from, or a word to weigh."""
        if self.negative is None:
            return False
        guides = any(self.negative.lengths) and len(method.guided_rows) > 0
        return guides or self.token_weights is not None


class Run:
    """One call of a pipeline, or all calls of a denoiser that is guided on its own.

    Attributes:
        second_pass: denoiser arguments under the negative prompt, for methods that call the model twice.
        stops_at_denoiser: whether the pipeline runs only to find those, and ends at its first denoiser call.

    Raises:
        PromptError: negatives or token weights do not fit the prompts.
    """

    def __init__(
        self,
        settings: Settings,
        report: Report,
        texts: Texts,
        arguments: CallArguments | None = None,
        auto_scaler: AutoScaler | None = None,
    ) -> None:
        """Start a run.

        Args:
            settings: the target and the guidance.
            report: filled while the run lasts.
            texts: negatives and token weights of this run.
            arguments: those of the pipeline call; None for a denoiser on its own.
            auto_scaler: one to continue with, for a denoiser on its own whose negatives change between its steps.
        """
        self.settings = settings
        self.report = report
        self.texts = texts
        if auto_scaler is None and settings.method.is_auto:
            auto_scaler = AutoScaler(settings.method)
        self.auto_scaler = auto_scaler
        self.rows = CfgRows(settings.family, settings.pipe, arguments)
        self.stops_at_denoiser = False
        self.second_pass: dict[str, Any] = {}
        self._branches: dict[object, Branches] = {}
        self._latest_negatives: tuple[object, NegativeRows] | None = None
        self._latest_weights: tuple[object, tuple[Tensor | None, ...]] | None = None
        self._calls_before = report.calls
        self._first_timestep: Any = None
        self._arguments = arguments or {}
        self._check(arguments)
        if settings.places.are_timed:
            self._check_time()

    def _check(self, arguments: CallArguments | None) -> None:
        negative = self.texts.negative
        prompts = self.rows.prompts
        if negative is not None and prompts is not None and len(negative) not in (1, prompts):
            raise PromptError(f"{len(negative)} negatives for {prompts} prompts: give one, or one for each")
        if negative is not None and any(negative.lengths):
            self.settings.places.check_texts(negative.texts)
        if self.texts.token_weights is not None and arguments is not None:
            self.texts.token_weights.check(arguments.get("prompt"))

    def _check_time(self) -> None:
        """Raise KnobError when the seconds of the clip cannot be told."""
        settings = self.settings
        if settings.pipe is not None:
            settings.family.check_time(settings.pipe, self._arguments)
        if settings.places.need_rate and self._told_rate is None:
            raise KnobError(
                f"seconds= needs the frames per second, which nothing tells in this {settings.family.name} run: give "
                f"fps=; {settings.family.clip_rate:g} is usual"
            )

    @property
    def _told_rate(self) -> float | None:
        return told_rate(self.settings.pipe, self._arguments)

    def timed(self, grid: Grid, denoiser: Any) -> Grid:
        """Return the grid of a denoiser call with its clock. Raises KnobError when its frames are not known."""
        settings = self.settings
        covered = settings.family.clip_frames(denoiser, settings.pipe, self._arguments, grid.frames)
        return replace(grid, clock=Clock(covered, self._told_rate))

    @cached_property
    def acts(self) -> bool:
        """True if denoiser calls are to be guided."""
        return self.texts.act(self.settings.method)

    @property
    def calls_twice(self) -> bool:
        """True if the method calls the model a second time in each step."""
        return self.acts and self.settings.method.model_calls == 2

    @property
    def negative(self) -> Negative:
        """The negatives; only where `acts`."""
        assert self.texts.negative is not None
        return self.texts.negative

    @property
    def needs_grid(self) -> bool:
        """True if the grid of image tokens is needed: for places, or to tell sound from picture among them."""
        settings = self.settings
        if settings.needs_grid or not settings.family.shares_sound_layers:
            return settings.needs_grid
        shares = chain.from_iterable(self.negative.shares)
        return settings.places.sound_strength != 1 or any(share.sound is not None for share in shares)

    # The results of `negative_rows` and `token_weights` are the same in almost every step, so the latest are kept:
    # making them copies tensors to the device and waits for that.

    def negative_rows(self, row_to_prompt: Sequence[int | None], like: Tensor, multiple: int) -> NegativeRows:
        """Lay the negatives out for the batch rows of a denoiser call, as `Negative.rows` does."""
        key = (tuple(row_to_prompt), like.dtype, like.device, like.shape[-1], multiple)
        if self._latest_negatives is None or self._latest_negatives[0] != key:
            self._latest_negatives = key, self.negative.rows(row_to_prompt, like=like, multiple=multiple)
        return self._latest_negatives[1]

    def places_of(self, row_to_prompt: Sequence[int | None]) -> list[list[Region | None]] | None:
        """Return where each negative of each batch row acts, None where all act alike."""
        places = self.settings.places
        if not places.of_negatives:
            return None
        rows = []
        for prompt in row_to_prompt:
            texts = () if prompt is None else self.negative.texts[prompt]
            rows.append([places.of_negatives.get(text) for text in texts])
        return rows

    def token_weights(
        self, row_to_prompt: Sequence[int | None], tokens: int, like: Tensor
    ) -> tuple[Tensor | None, ...] | None:
        """Return the weights of each row's positive tokens, as `TokenWeights.rows` does; None where all are 1."""
        token_weights = self.texts.token_weights
        if token_weights is None:
            return None
        key = (tuple(row_to_prompt), tokens, like.device)
        if self._latest_weights is None or self._latest_weights[0] != key:
            self._latest_weights = key, token_weights.rows(row_to_prompt, tokens, like=like)
        return self._latest_weights[1]

    def branches_of(self, denoiser: object) -> Branches:
        """Return the object that tells conditional and unconditional calls of a denoiser apart."""
        return self._branches.setdefault(denoiser, Branches())

    def strength(self, arguments: CallArguments) -> float:
        """Return how strongly the method acts on a denoiser call with these arguments, 0 to 1.

        Raises:
            KnobError: the schedule depends on the step, and the scheduler does not tell it.
        """
        settings = self.settings
        if not settings.follows_steps:
            return 1.0
        timestep = arguments.get("timestep")
        if self._first_timestep is None:
            self._first_timestep = timestep
        done = settings.family.fraction_done(settings.pipe, settings.schedule.over, timestep, self._first_timestep)
        return settings.schedule.strength(done)

    def prepare_second_pass(self, call: Callable[..., Any], pipe: Pipeline, arguments: CallArguments) -> None:
        """Find the denoiser's arguments under the negative prompts.

        Raises:
            KnobError: the negatives are not one text of weight 1 for each prompt.
        """
        texts = self.negative.texts
        if not texts or not self.negative.is_plain:
            raise KnobError(
                f'method "{self.settings.method.name}" calls the model with the negative prompt in place of the '
                "positive one, so it needs its text (from negative_prompt= or vsf.encode), one of weight 1 for each "
                "prompt"
            )
        negatives = []
        for negatives_of_prompt in texts:
            negatives.append(negatives_of_prompt[0] if negatives_of_prompt else "")
        prompts = self.rows.prompts or 1
        if len(negatives) == 1:
            negatives = negatives * prompts
        self.stops_at_denoiser = True
        try:
            self.second_pass = second_pass_arguments(
                call, pipe, arguments, texts=negatives, names=self.settings.family.conditions
            )
        finally:
            self.stops_at_denoiser = False

    def finish_step(self, layers: Sequence[str], *, compiled: bool) -> None:
        """Count a denoiser call. Raises NotGuidedError when no attention call of this run was guided."""
        self.report.steps += 1
        self.report.compiled |= compiled
        if self.auto_scaler is not None:
            self.report.scales.append(self.auto_scaler.finish_step())
        if self.report.calls == self._calls_before and not compiled:
            raise NotGuidedError(
                "a negative prompt was given, but no attention call of the denoiser was guided: "
                f"none of {', '.join(layers)} attended to image and text as {self.settings.family.name} does"
            )


@contextmanager
def running(run: Run) -> Iterator[None]:
    """Let denoiser calls that this thread makes in the block belong to this run."""
    token = _RUN.set(run)
    try:
        yield
    finally:
        _RUN.reset(token)


def run_of_call(pipe: Pipeline) -> Run | None:
    """Return the run of this pipeline that makes the call in progress, None when something else makes it.

    Inside a run other pipelines may be called: in a callback, by a hook, or by a pipeline made of pipelines. So the
    nearest pipeline on the stack has to be the guided one. Suspending the run while the user's callbacks are called
    would not see the others, and which parameters are callbacks differs between pipelines.
    """
    run = _RUN.get()
    return run if run is not None and run.settings.pipe is pipe and _calling_pipeline(pipe) is pipe else None


def _calling_pipeline(guided: Pipeline) -> object:
    """Return the nearest pipeline on the stack, None where there is none.

    A pipeline is on the stack where it is the first argument of a function: the `self` of a method, as a rule.
    """
    frame = sys._getframe(1)
    while (frame := frame.f_back) is not None:  # type: ignore[assignment]
        code = frame.f_code
        # The first argument of a lambda is as likely something that a caller hands around.
        if not code.co_argcount or code.co_name == "<lambda>":
            continue
        first = frame.f_locals.get(code.co_varnames[0])
        if first is guided or _is_pipeline(first):
            return first
    return None


def _is_pipeline(value: object) -> bool:
    # By name: diffusers need not be imported for this, and a pipeline of it may be of another copy of the package.
    return any(cls.__name__ in ("DiffusionPipeline", "ModularPipeline") for cls in type(value).__mro__)
