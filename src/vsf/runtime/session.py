"""Attaches a guidance method to a pipeline: checks the settings, installs the overrides, starts a run for each call."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from time import perf_counter
from typing import Any, cast

from torch import nn

from vsf.controls.places import Places
from vsf.controls.schedule import Schedule
from vsf.errors import AlreadyGuidedError, KnobError, NotGuidedError, PromptError
from vsf.families import find_family
from vsf.families.base.encode_negatives import Negatives, check_sound, encode_negatives
from vsf.families.base.family import Family, class_names
from vsf.families.base.reading import check_read_alike, encoding_options, tokenized_with
from vsf.families.base.steps import check_step_count
from vsf.guidance import Guidance
from vsf.patching.arguments import Arguments
from vsf.patching.hosts import CallArguments, Pipeline
from vsf.patching.swaps import ENCODING, Original, owner_of, swap_class
from vsf.runtime.auto_scaler import AutoScaler
from vsf.runtime.denoiser import GuidedDenoiser, already_guided
from vsf.runtime.report import Report
from vsf.runtime.run import Run, Settings, Texts, run_of_call, running
from vsf.text.embeddings import Negative
from vsf.text.prompt import Prompt
from vsf.text.token_weights import TokenWeights

_INSTALLING = threading.RLock()
"""Held while overrides are installed or taken off, and while a thread claims a pipeline for a run."""


class Session:
    """One guidance method on one pipeline, or on a denoiser that is guided on its own.

    Attributes:
        texts: negatives and token weights of the coming calls.
        takes_argument: whether each call brings its own negatives, as it does after `vsf.attach`.
        thread: the one thread whose calls of a denoiser on its own are guided; None for every thread.
        report: the effect of all runs so far.

    Raises:
        AlreadyGuidedError: the target, or its denoiser, is guided by another session.
        KnobError: the method or the schedule does not work with this target.
        UnsupportedPipelineError: no family recognises the target.
        UnsupportedAttentionError: an attention layer cannot be guided.
    """

    def __init__(
        self,
        target: Pipeline | nn.Module,
        method: Guidance,
        schedule: Schedule,
        places: Places,
        observe: bool = False,
    ) -> None:
        self.family = find_family(target)
        self.target = target
        self.pipe = None if isinstance(target, nn.Module) else target
        self.settings = self._checked(method, schedule, places, observe)
        models = self.family.denoisers_of(target)
        self._require_unguided(models)
        self.denoisers = [GuidedDenoiser.of(model, self.family) for model in models]
        self._require_layers(schedule)
        # Denoisers of one pipeline, such as the two of Wan 2.2, mostly have layers of the same names.
        layers = tuple(dict.fromkeys(name for denoiser in self.denoisers for name in denoiser.layers))
        observes = self.settings.observes
        self.report = Report(method=repr(method), family=self.family.name, layers=layers, observes=observes)
        self.takes_argument = False
        self.texts = Texts()
        self.thread: int | None = None
        self._denoiser_run: Run | None = None
        self._running_in: int | None = None
        self._undo = ExitStack()

    # Settings ---------------------------------------------------------------------------------------------------------

    def change(self, method: Guidance, schedule: Schedule, places: Places, observe: bool = False) -> None:
        """Continue with another method, schedule and places, without installing anything again. Raises KnobError."""
        settings = self._checked(method, schedule, places, observe)
        self._require_layers(schedule)
        self.settings = settings
        self.report.method = repr(method)
        self.report.observes = settings.observes

    def _checked(self, method: Guidance, schedule: Schedule, places: Places, observe: bool) -> Settings:
        settings = Settings(self.family, self.pipe, method, schedule, places, observe)
        self.family.check(self.target, method)
        if "ModularPipeline" in class_names(self.pipe) and method.model_calls == 2:
            raise KnobError(
                f'"{method.name}" calls the denoiser twice in each step, which is for the guider of a modular pipeline '
                "to do: give it diffusers.ClassifierFreeGuidance if it has one, use an ordinary pipeline if there is "
                "one, or choose another method"
            )
        if method.is_auto:
            AutoScaler(method)  # raises here, not in the first run, for a method without a scale
        if places.sound_strength != 1:
            check_sound(self.family)
            if method.model_calls == 2:
                raise KnobError(
                    f'method "{method.name}" mixes pictures alone, so that sound has no strength: leave out '
                    "sound_strength="
                )
        if places.of_negatives and (method.model_calls == 2 or method.token_layout == "reference"):
            raise KnobError(
                f'method "{method.name}" knows one negative for each prompt here: give mask=, frames= and seconds= for '
                "all of them"
            )
        if places.are_timed:
            self.family.check_time(self.target, {})
        if self.pipe is None and settings.follows_steps:
            raise KnobError("a denoiser on its own has no steps: guide the pipeline, or leave out start, end and curve")
        return settings

    def _require_layers(self, schedule: Schedule) -> None:
        """Raise KnobError when the schedule names layers that a denoiser does not have."""
        for denoiser in self.denoisers:
            denoiser.inactive_layers(schedule)

    # Installing -------------------------------------------------------------------------------------------------------

    def install(self) -> None:
        """Override the calls of the denoisers and of the pipeline, until `uninstall`.

        Raises:
            AlreadyGuidedError: another session came first; of two threads that install at once, one gets this.
        """
        with _INSTALLING, ExitStack() as undo:
            self._require_unguided([denoiser.module for denoiser in self.denoisers])
            for denoiser in self.denoisers:
                denoiser.install(undo, self.run_of_call)
            if self.pipe is not None:
                overrides = {"__call__": self.call}
                if hasattr(type(self.pipe), "encode_prompt"):
                    overrides["encode_prompt"] = _one_at_a_time
                undo.callback(swap_class(self.pipe, overrides, owner=self))
            # Only what was installed in full is kept; an error before this line undoes the part that was.
            self._undo = undo.pop_all()

    def add_undo(self, undo: Callable[[], None]) -> None:
        """Let `uninstall` also undo something that was put on top of this session; it is undone first."""
        self._undo.callback(undo)

    def uninstall(self) -> None:
        """Put everything back as it was before `install`."""
        with _INSTALLING:
            self._undo.close()

    def _require_unguided(self, models: Sequence[nn.Module]) -> None:
        if any(owner_of(part) is not None for part in (self.target, *models)):
            raise already_guided(self.target)

    # Negatives --------------------------------------------------------------------------------------------------------

    def use_prompts(
        self,
        prompts: Prompt | Sequence[Prompt] | Negatives | Sequence[Negatives],
        within: str | Sequence[str] | None = None,
        options: CallArguments | None = None,
        sound: Negatives | Sequence[Negatives] | None = None,
    ) -> None:
        """Encode the negatives of the coming calls. Raises PromptError and KnobError; see `vsf.guide`."""
        self.use(*self._encode(prompts, within, options, sound))

    def use(self, negative: Negative, token_weights: TokenWeights | None = None) -> None:
        """Take these negatives for the coming calls. Raises PromptError and KnobError."""
        texts = self._fitting(negative, token_weights)
        assert texts.negative is not None
        self.texts = texts
        self.report.begin(texts.negative)
        if self.pipe is None:
            # The calls of a denoiser on its own are the steps of one run, whose end is not announced.
            before = self._denoiser_run
            auto_scaler = None if before is None else before.auto_scaler
            self._denoiser_run = Run(self.settings, self.report, texts, auto_scaler=auto_scaler)

    def _encode(
        self,
        prompts: Prompt | Sequence[Prompt] | Negatives | Sequence[Negatives],
        within: str | Sequence[str] | None = None,
        options: CallArguments | None = None,
        sound: Negatives | Sequence[Negatives] | None = None,
    ) -> tuple[Negative, TokenWeights | None]:
        if self.pipe is None:
            raise PromptError("a denoiser cannot encode texts: pass negative=vsf.encode(pipe, texts) of its pipeline")
        if within is not None and self.settings.method.model_calls == 2:
            raise KnobError(
                f'method "{self.settings.method.name}" reads the negative as a prompt: write its context into it'
            )
        parsed = _parsed_prompts(prompts)
        if parsed is None:
            return encode_locked(self.family, self.pipe, cast(Negatives, prompts), within, options, sound), None
        with ENCODING, tokenized_with(self.pipe, options or {}):
            token_weights = TokenWeights.of(parsed, partial(self.family.characters, self.pipe))
        negatives = [prompt.negatives for prompt in parsed]
        return encode_locked(self.family, self.pipe, negatives, within, options, sound), token_weights

    def _fitting(self, negative: Negative, token_weights: TokenWeights | None = None) -> Texts:
        """Check that the method can use the negatives, and drop the marks that it does not want."""
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
        return Texts(negative, token_weights)

    def _take_argument(self, arguments: dict[str, Any], positional: Sequence[str]) -> Texts:
        """Move the negatives of an attached pipeline's call from its arguments to the guidance."""
        for name, value in arguments.items():
            if name.startswith(("negative_prompt_", "negative_pooled_")) and value is not None:
                raise PromptError(
                    f"{name}= has no meaning on an attached pipeline, whose negative_prompt= feeds the guidance alone. "
                    "Leave it out, or detach and use vsf.guide, which leaves the pipeline's own arguments as they are"
                )
        negatives = arguments.pop("negative_prompt", None)
        parsed = _parsed_prompts(arguments.get("prompt"))
        options = encoding_options(self.pipe, arguments)
        if "negative_prompt" in positional:
            arguments["negative_prompt"] = None
        if parsed is not None:
            if negatives is not None:
                raise PromptError("a vsf.Prompt holds its negatives: leave negative_prompt= out")
            positives = [prompt.positive for prompt in parsed]
            arguments["prompt"] = positives[0] if isinstance(arguments["prompt"], Prompt) else positives
            return self._fitting(*self._encode(parsed, options=options))
        if negatives is None:
            return Texts()
        if isinstance(negatives, Negative):
            return self._fitting(negatives)
        return self._fitting(*self._encode(negatives, options=options))

    # Running ----------------------------------------------------------------------------------------------------------

    def call(self, original: Original, pipe: Pipeline, *args: Any, **kwargs: Any) -> Any:
        """Override the pipeline's `__call__`: make one run of it."""
        arguments = Arguments.of(original, args, kwargs)
        start = perf_counter()
        with self._alone_among_threads():
            try:
                return self._make_run(partial(original, pipe), pipe, arguments)
            finally:
                self.report.seconds += perf_counter() - start

    def _make_run(self, call: Callable[..., Any], pipe: Pipeline, original_arguments: Arguments) -> Any:
        arguments = dict(original_arguments.values)
        report = self.report
        texts = self.texts
        if self.takes_argument:
            report.tokens = ()
            texts = self._take_argument(arguments, original_arguments.positional)
        if texts.negative is not None:
            report.begin(texts.negative)
        # Everything that can be checked is checked here, before the pipeline spends any time.
        run = Run(self.settings, report, texts, arguments)
        check_step_count(pipe, arguments)
        if texts.negative is not None and self.settings.method.model_calls == 1:
            check_read_alike(pipe, texts.negative, arguments)
        if run.acts:
            self._require_same_denoisers(pipe)
        calls_before = report.steps + report.skipped
        try:
            with running(run):
                if run.calls_twice:
                    run.prepare_second_pass(partial(_call_by_name, call), pipe, arguments)
                output = original_arguments.call(call, arguments)
        finally:
            for denoiser in self.denoisers:
                denoiser.end_run()
        # A cached or replaced denoiser would leave the negatives without effect, and nobody would notice.
        if run.acts and report.steps + report.skipped == calls_before:
            raise NotGuidedError("the pipeline ran without calling the denoiser that is guided")
        return output

    def run_of_call(self) -> Run | None:
        """Return the run that the denoiser call in progress belongs to, None for a call that is not to be guided.

        Raises:
            NotGuidedError: something other than the pipeline calls its denoiser inside a `guide` block.
        """
        if self.pipe is None:
            return self._denoiser_run if self.thread in (None, threading.get_ident()) else None
        run = run_of_call(self.pipe)
        if run is None and self.texts.act(self.settings.method):
            raise NotGuidedError(
                "the guided denoiser was called, but not by the pipeline that is guided, so it is not known which "
                "batch rows to guide. Guide the pipeline that makes the call, or, where it does not use "
                "classifier-free guidance, the denoiser: guide(pipe.transformer)"
            )
        return run

    @contextmanager
    def _alone_among_threads(self) -> Iterator[None]:
        """Claim the pipeline for this thread. Raises AlreadyGuidedError when it runs in another one.

        The same thread may come in again: callbacks of a run may call the pipeline.
        """
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

    def _require_same_denoisers(self, pipe: Pipeline) -> None:
        """Raise NotGuidedError when a denoiser of the pipeline was replaced since it was guided."""
        components = list(pipe.components.items())
        for denoiser in self.denoisers:
            module = denoiser.module
            if any(part is module for _, part in components):
                continue
            names = []
            for name, part in components:
                if _is_or_wraps(part, self.family):
                    names.append(f"pipe.{name}")
            replaced = " or ".join(names) or "the denoiser"
            raise NotGuidedError(
                f"{replaced} was replaced after the pipeline was guided, so that it would run without calling the "
                "denoiser that is guided. Replace it first (with torch.compile(...) for one), then call vsf.attach "
                "or enter guide()"
            )


def encode_locked(
    family: Family,
    pipe: Pipeline,
    negatives: Negatives | Sequence[Negatives],
    within: str | Sequence[str] | None = None,
    options: CallArguments | None = None,
    sound: Negatives | Sequence[Negatives] | None = None,
) -> Negative:
    """Encode negatives while no other thread encodes: encoders are shared, and overridden meanwhile."""
    with ENCODING:
        return encode_negatives(family, pipe, negatives, within, options, sound)


def _one_at_a_time(original: Original, pipe: Pipeline, *args: Any, **kwargs: Any) -> Any:
    """Override a pipeline's `encode_prompt`: wait for other threads that encode."""
    with ENCODING:
        return original(pipe, *args, **kwargs)


def _call_by_name(call: Callable[..., Any], pipe: Pipeline, **arguments: Any) -> Any:
    """Call a pipeline that is bound already with named arguments."""
    del pipe
    return call(**arguments)


def _is_or_wraps(part: object, family: Family) -> bool:
    """Tell whether a part of a pipeline is one of the family's denoisers, or has one inside."""
    if not isinstance(part, nn.Module):
        return False
    return any(family.recognises(module) for module in part.modules())


def _parsed_prompts(prompts: object) -> list[Prompt] | None:
    """Return a `vsf.Prompt`, or several, as a list; None for anything else."""
    if isinstance(prompts, Prompt):
        return [prompts]
    if isinstance(prompts, list | tuple) and prompts and all(isinstance(prompt, Prompt) for prompt in prompts):
        return list(prompts)
    return None
