"""Attaches a guidance method to a pipeline: its settings, what is installed, and a run for each pipeline call."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from time import perf_counter
from typing import Any, cast

from torch import nn

from vsf.controls.region import Region
from vsf.controls.schedule import Schedule
from vsf.errors import AlreadyGuidedError, KnobError, NotGuidedError, PromptError
from vsf.families import find_family
from vsf.families.base.encode_negatives import Negatives, encode_negatives
from vsf.families.base.family import Family, class_names
from vsf.families.base.reading import check_read_alike, encoding_options, tokenized_with
from vsf.families.base.steps import check_step_count
from vsf.guidance import Guidance
from vsf.patching.arguments import Arguments
from vsf.patching.swaps import ENCODING, owner_of, swap_class
from vsf.runtime.auto_scaler import Pace
from vsf.runtime.denoiser import GuidedDenoiser, already_guided
from vsf.runtime.report import Report
from vsf.runtime.run import Run, Settings, Texts, run_of_call, running
from vsf.text.embeddings import Negative
from vsf.text.prompt import Prompt
from vsf.text.token_weights import Wording

_INSTALLING = threading.RLock()


class Session:
    """One method on one pipeline, or on a denoiser of its own.

    texts: the negatives of the coming calls. takes_argument: whether each call brings its own, as after `attach`.
    Raises AlreadyGuidedError, KnobError, UnsupportedPipelineError and UnsupportedAttentionError.
    """

    def __init__(
        self, target: Any, method: Guidance, schedule: Schedule, region: Region | None, observe: bool = False
    ) -> None:
        self.family = find_family(target)
        self.target, self.pipe = target, None if isinstance(target, nn.Module) else target
        self.settings = self._checked(method, schedule, region, observe)
        models = self.family.denoisers_of(target)
        self._require_unguided(models)
        self.denoisers = [GuidedDenoiser.of(model, self.family) for model in models]
        self._require_layers(schedule)
        layers = tuple(dict.fromkeys(name for denoiser in self.denoisers for name in denoiser.layers))
        observes = self.settings.observes
        self.report = Report(method=repr(method), family=self.family.name, layers=layers, observes=observes)
        self.takes_argument = False
        self.texts = Texts()
        self.thread: int | None = None
        self._standing: Run | None = None
        self._running_in: int | None = None
        self._undo = ExitStack()

    def change(self, method: Guidance, schedule: Schedule, region: Region | None, observe: bool = False) -> None:
        """Go on with another method, schedule and region; nothing is installed anew. Raises KnobError."""
        settings = self._checked(method, schedule, region, observe)
        self._require_layers(schedule)
        self.settings = settings
        self.report.method, self.report.observes = repr(method), settings.observes

    def _checked(self, method: Guidance, schedule: Schedule, region: Region | None, observe: bool) -> Settings:
        settings = Settings(self.family, self.pipe, method, schedule, region, observe)
        self.family.check(self.target, method)
        if "ModularPipeline" in class_names(self.pipe) and method.model_calls == 2:
            raise KnobError(
                f'"{method.name}" calls the denoiser twice in each step, which is for the guider of a modular pipeline '
                "to do: give it diffusers.ClassifierFreeGuidance, or use an ordinary pipeline"
            )
        if method.is_auto:
            Pace(method)
        if self.pipe is None and settings.follows_steps:
            raise KnobError("a denoiser on its own has no steps: guide the pipeline, or leave out start, end and curve")
        return settings

    def _require_layers(self, schedule: Schedule) -> None:
        """Raise KnobError for layers of a schedule that are not there."""
        for denoiser in self.denoisers:
            denoiser.idle_layers(schedule)

    def install(self) -> None:
        """Stand in for the calls of the denoisers and the pipeline, until `uninstall`.

        Of two threads that do so at once, one gets AlreadyGuidedError.
        """
        with _INSTALLING, ExitStack() as undo:
            self._require_unguided([denoiser.module for denoiser in self.denoisers])
            for denoiser in self.denoisers:
                denoiser.install(undo, self.run_of_call)
            if self.pipe is not None:
                overrides = {"__call__": self.run}
                if hasattr(type(self.pipe), "encode_prompt"):
                    overrides["encode_prompt"] = _one_at_a_time
                undo.callback(swap_class(self.pipe, overrides, owner=self))
            self._undo = undo.pop_all()

    def after(self, undo: Callable[[], None]) -> None:
        """Let something else be undone with what is installed, first."""
        self._undo.callback(undo)

    def uninstall(self) -> None:
        """Leave nothing behind."""
        with _INSTALLING:
            self._undo.close()

    def _require_unguided(self, models: Sequence[nn.Module]) -> None:
        if any(owner_of(part) is not None for part in (self.target, *models)):
            raise already_guided(self.target)

    def take(
        self,
        given: Prompt | Sequence[Prompt] | Negatives | Sequence[Negatives],
        within: str | Sequence[str] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Encode what was written for the coming calls, read with these options. Raises PromptError and KnobError."""
        self.use(*self._encoded(given, within, options))

    def use(self, negative: Negative, wording: Wording | None = None) -> None:
        """Take these negatives for the coming calls. Raises PromptError and KnobError."""
        self.texts = self._fitting(negative, wording)
        self.report.begin(cast(Negative, self.texts.negative))
        if self.pipe is None:
            pace = None if self._standing is None else self._standing.pace
            self._standing = Run(self.settings, self.report, self.texts, pace=pace)

    def _encoded(
        self,
        given: Prompt | Sequence[Prompt] | Negatives | Sequence[Negatives],
        within: str | Sequence[str] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> tuple[Negative, Wording | None]:
        if self.pipe is None:
            raise PromptError("a denoiser cannot encode texts: pass negative=vsf.encode(pipe, texts) of its pipeline")
        if within is not None and self.settings.method.model_calls == 2:
            raise KnobError(
                f'method "{self.settings.method.name}" reads the negative as a prompt: write its context into it'
            )
        prompts = _prompts(given)
        if prompts is None:
            return encoded(self.family, self.pipe, cast(Negatives, given), within, options), None
        with ENCODING, tokenized_with(self.pipe, options or {}):
            wording = Wording.of(prompts, partial(self.family.characters, self.pipe))
        return encoded(self.family, self.pipe, [prompt.negatives for prompt in prompts], within, options), wording

    def _fitting(self, negative: Negative, wording: Wording | None = None) -> Texts:
        method = self.settings.method
        if not isinstance(negative, Negative):
            raise PromptError(
                f"negative= takes what vsf.encode returns, got {type(negative).__name__}. Wrap your own embeddings: "
                "vsf.Negative.from_padded(embeddings, mask), or vsf.Negative((rows, ...)) when they hold no padding"
            )
        if method.strips_special_tokens and any(negative.lengths):
            negative = negative.stripped()
        if method.token_layout == "reference" and not negative.is_plain:
            raise KnobError('layout="reference" knows one negative of weight 1 for each prompt; use layout="paper"')
        return Texts(negative, wording)

    def run_of_call(self) -> Run | None:
        """Return the run that makes the denoiser call in progress, None where the call is to be left alone.

        Raises NotGuidedError where something other than the pipeline calls its denoiser inside of a `guide` block.
        """
        if self.pipe is None:
            return self._standing if self.thread in (None, threading.get_ident()) else None
        run = run_of_call(self.pipe)
        if run is None and self.texts.act(self.settings.method):
            raise NotGuidedError(
                "the guided denoiser was called, but not by the pipeline that is guided, so it is not known which "
                "batch rows to guide. Guide the pipeline that makes the call, or, where it does not use "
                "classifier-free guidance, the denoiser: guide(pipe.transformer)"
            )
        return run

    def run(self, original: Any, pipe: Any, *args: Any, **kwargs: Any) -> Any:
        """Stand in for the pipeline's `__call__`."""
        given, start = Arguments.of(original, args, kwargs), perf_counter()
        with self._alone_among_threads():
            try:
                return self._run(partial(original, pipe), pipe, given)
            finally:
                self.report.seconds += perf_counter() - start

    def _run(self, call: Any, pipe: Any, given: Arguments) -> Any:
        arguments, report, texts = dict(given.values), self.report, self.texts
        if self.takes_argument:
            report.tokens = ()
            texts = self._take_argument(arguments, given.positional)
        if texts.negative is not None:
            report.begin(texts.negative)
        run = Run(self.settings, report, texts, arguments)
        check_step_count(pipe, arguments)
        if texts.negative is not None and self.settings.method.model_calls == 1:
            check_read_alike(pipe, texts.negative, arguments)
        if run.acts:
            self._require_same_denoisers()
        calls = report.steps + report.skipped
        try:
            with running(run):
                if run.calls_twice():
                    run.catch_second(partial(_by_name, call), pipe, arguments)
                output = given.call(call, arguments)
        finally:
            for denoiser in self.denoisers:
                denoiser.end_run()
        if run.acts and report.steps + report.skipped == calls:
            raise NotGuidedError("the pipeline ran without calling the denoiser that is guided")
        return output

    @contextmanager
    def _alone_among_threads(self) -> Iterator[None]:
        """Raise AlreadyGuidedError when another thread is in this pipeline."""
        thread = threading.get_ident()
        with _INSTALLING:
            before = self._running_in
            if before not in (None, thread):
                raise AlreadyGuidedError(
                    f"this {type(self.pipe).__name__} is running in another thread: use one guided pipeline per "
                    "thread; encoders may be shared between them"
                )
            self._running_in = thread
        try:
            yield
        finally:
            self._running_in = before

    def _require_same_denoisers(self) -> None:
        """Raise NotGuidedError when the pipeline has got another denoiser since it was guided."""
        held = list(getattr(self.pipe, "components", {}).items())
        for denoiser in self.denoisers:
            if not any(part is denoiser.module for _, part in held):
                names = [name for name, part in held if _is_or_wraps(part, self.family)]
                replaced = " or ".join(f"pipe.{name}" for name in names) or "the denoiser"
                raise NotGuidedError(
                    f"{replaced} was replaced after the pipeline was guided, so that it would run without calling the "
                    "denoiser that is guided. Replace it first (with torch.compile(...) for one), then call vsf.attach "
                    "or enter guide()"
                )

    def _take_argument(self, arguments: dict[str, Any], positional: Sequence[str]) -> Texts:
        """Move the negatives from the pipeline's arguments to the guidance."""
        for name, value in arguments.items():
            if name.startswith(("negative_prompt_", "negative_pooled_")) and value is not None:
                raise PromptError(
                    f"{name}= has no meaning on an attached pipeline, whose negative_prompt= feeds the guidance alone. "
                    "Leave it out, or detach and use vsf.guide, which leaves the pipeline's own arguments as they are"
                )
        given, prompts = arguments.pop("negative_prompt", None), _prompts(arguments.get("prompt"))
        options = encoding_options(self.pipe, arguments)
        if "negative_prompt" in positional:
            arguments["negative_prompt"] = None
        if prompts is not None:
            if given is not None:
                raise PromptError("a vsf.Prompt holds its negatives: leave negative_prompt= out")
            texts = [prompt.positive for prompt in prompts]
            arguments["prompt"] = texts[0] if isinstance(arguments["prompt"], Prompt) else texts
            return self._fitting(*self._encoded(prompts, options=options))
        if isinstance(given, Negative):
            return self._fitting(given)
        return Texts() if given is None else self._fitting(*self._encoded(given, options=options))


def encoded(
    family: Family,
    pipe: Any,
    negatives: Negatives | Sequence[Negatives],
    within: str | Sequence[str] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Negative:
    """Encode negatives, with no other thread doing so: encoders are shared, and stood in for meanwhile."""
    with ENCODING:
        return encode_negatives(family, pipe, negatives, within, options)


def _one_at_a_time(original: Any, pipe: Any, *args: Any, **kwargs: Any) -> Any:
    """Stand in for a pipeline's `encode_prompt`."""
    with ENCODING:
        return original(pipe, *args, **kwargs)


def _by_name(call: Any, pipe: Any, **arguments: Any) -> Any:
    """Call a pipeline that is bound already."""
    del pipe
    return call(**arguments)


def _is_or_wraps(part: object, family: Family) -> bool:
    """Whether a part of a pipeline is one of the family's denoisers, or has one inside."""
    modules = part.modules() if isinstance(part, nn.Module) else ()
    return any(set(class_names(module)) & set(family.denoisers) for module in modules)


def _prompts(given: object) -> list[Prompt] | None:
    """Return what was given as a list when it is a Prompt or several, None when it is something else."""
    if isinstance(given, Prompt):
        return [given]
    several = isinstance(given, list | tuple) and given and all(isinstance(entry, Prompt) for entry in given)
    return list(cast(Sequence[Prompt], given)) if several else None
