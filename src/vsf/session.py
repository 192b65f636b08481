"""A method at work on a live pipeline: what is installed, and what the run in progress needs to know."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from time import perf_counter
from typing import Any, cast

from torch import nn

from vsf.denoiser import GuidedDenoiser, named
from vsf.effect import Report
from vsf.emphasis import Wording
from vsf.encode import Negative
from vsf.errors import (
    AlreadyGuidedError,
    KnobError,
    LayoutError,
    NotGuidedError,
    PromptError,
)
from vsf.families import find_family
from vsf.families.base import Negatives, class_names, halves
from vsf.families.reading import check_read_alike, encoding_options, tokenized_with
from vsf.families.steps import check_step_count
from vsf.guidance import AUTO, Guidance, Unguided, model_calls
from vsf.hooks import owner_of, swap_class
from vsf.pace import Pace
from vsf.prompt import Prompt
from vsf.region import Region
from vsf.schedule import Schedule
from vsf.twice import conditions_of


class Session:
    """One method on one pipeline (or denoiser): what is installed, and what the run in progress needs to know."""

    def __init__(self, target: Any, method: Guidance, schedule: Schedule, region: Region | None) -> None:
        self.family = find_family(target)
        self.target, self.pipe = target, None if isinstance(target, nn.Module) else target
        self._take(method, schedule, region)
        models = self.family.denoisers_of(target)
        if any(owner_of(part) is not None for part in (target, *models)):
            raise AlreadyGuidedError(
                f"this {type(target).__name__}, or the denoiser it shares with another pipeline, is guided already: "
                "leave the outer guide() block or call vsf.detach(pipe) first"
            )
        self.denoisers = [GuidedDenoiser(model, self) for model in models]
        layers = tuple(dict.fromkeys(name for denoiser in self.denoisers for name in denoiser.layers))
        self.report = Report(method=repr(self.method), family=self.family.name, layers=layers)
        self.takes_argument = False
        self._negative: Negative | None = None
        self.wording: Wording | None = None
        self._prompts: int | None = None
        self._samples = 0
        self._running = False
        self._first_timestep: Any = None
        self._calls_before = 0
        self.is_catching = False
        self.second: dict[str, Any] = {}
        self.undo = ExitStack()

    def change(self, method: Guidance, schedule: Schedule, region: Region | None) -> None:
        """Go on with another method, schedule and region; nothing is installed anew. Raises KnobError."""
        before = self.method, self.schedule, self.region
        try:
            self._take(method, schedule, region)
            self._follow_schedule()
        except KnobError:
            self._take(*before)
            self._follow_schedule()
            raise
        self.report.method = repr(method)

    def _follow_schedule(self) -> None:
        for denoiser in self.denoisers:
            denoiser.follow_schedule()

    def _take(self, method: Guidance, schedule: Schedule, region: Region | None) -> None:
        self.family.check(self.target, method)
        if self._is_modular and model_calls(method) == 2:
            raise KnobError(
                f'"{method.name}" calls the denoiser twice in each step, which is for the guider of a modular pipeline '
                "to do: give it diffusers.ClassifierFreeGuidance, or use an ordinary pipeline"
            )
        self.pace = Pace(method) if getattr(method, "scale", None) == AUTO else None
        self.method, self.schedule, self.region = method, schedule, region
        if self.pipe is None and self._follows_steps:
            raise KnobError("a denoiser on its own has no steps: guide the pipeline, or leave out start, end and curve")

    def install(self) -> None:
        """Swap the classes of the denoisers and the pipeline, until `undo` is closed."""
        for denoiser in self.denoisers:
            denoiser.install(self.undo)
        if self.pipe is not None:
            self.undo.callback(swap_class(self.pipe, {"__call__": self.run}, owner=self))

    def take(
        self,
        given: Prompt | Sequence[Prompt] | Negatives | Sequence[Negatives],
        within: str | Sequence[str] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Encode what was written for what is run next, read with these options. Raises PromptError and KnobError."""
        if self.pipe is None:
            raise PromptError("a denoiser cannot encode texts: pass negative=vsf.encode(pipe, texts) of its pipeline")
        if within is not None and model_calls(self.method) == 2:
            raise KnobError(f'method "{self.method.name}" reads the negative as a prompt: write its context into it')
        prompts = _prompts(given)
        if prompts is None:
            self.use(self.family.encode_all(self.pipe, cast(Negatives, given), within, options))
            return
        with tokenized_with(self.pipe, options or {}):
            wording = Wording.of(prompts, partial(self.family.characters, self.pipe))
        self.use(self.family.encode_all(self.pipe, [prompt.negatives for prompt in prompts], within, options))
        self.wording = wording

    def use(self, negative: Negative) -> None:
        """Take these negatives for what is run next. Raises PromptError and KnobError."""
        if not isinstance(negative, Negative):
            raise PromptError(
                f"negative= takes what vsf.encode returns, got {type(negative).__name__}. Wrap your own embeddings: "
                "vsf.Negative.from_padded(embeddings, mask), or vsf.Negative((rows, ...)) when they hold no padding"
            )
        if getattr(self.method, "special_tokens", "keep") == "strip" and any(negative.lengths):
            negative = negative.stripped()
        if getattr(self.method, "layout", "paper") == "reference" and not negative.is_plain:
            raise KnobError('layout="reference" knows one negative of weight 1 for each prompt; use layout="paper"')
        self._negative, self.wording = negative, None
        self.report.begin(negative)

    def active(self) -> Negative | None:
        """Return the negatives that act on a denoiser call made now. Raises NotGuidedError outside of a run."""
        negative = self._negative
        acts = negative is not None and any(negative.lengths) and not isinstance(self.method, Unguided)
        if negative is None or not (acts or self.wording):
            return None
        if self.pipe is not None and not self._running:
            raise NotGuidedError(
                "the guided denoiser was called, but not by the pipeline that is guided, so it is not known which "
                "batch rows to guide. Guide the pipeline that makes the call, or, where it does not use "
                "classifier-free guidance, the denoiser: guide(pipe.transformer)"
            )
        return negative

    def run(self, original: Any, pipe: Any, *args: Any, **kwargs: Any) -> Any:
        """Stand in for the pipeline's `__call__`."""
        arguments = named(original, args, kwargs)
        calls = self.report.steps + self.report.skipped
        self._calls_before, self._running, start = self.report.calls, True, perf_counter()
        self._first_timestep = None
        for denoiser in self.denoisers:
            denoiser.branches.begin()
        if self.pace is not None:
            self.pace.begin()
        if self._negative is not None:
            self.report.begin(self._negative)
        try:
            if self.takes_argument:
                self.report.tokens = ()
                self._take_argument(arguments)
            self._count_prompts(arguments)
            check_step_count(pipe, arguments)
            if self._negative is not None and model_calls(self.method) == 1:
                check_read_alike(pipe, self._negative, arguments)
            if self.active() is not None and model_calls(self.method) == 2:
                self.second = self._second(original, pipe, arguments)
            output = original(pipe, **arguments)
            if self.active() is not None and self.report.steps + self.report.skipped == calls:
                raise NotGuidedError("the pipeline ran without calling the denoiser that is guided")
            return output
        finally:
            self.report.seconds += perf_counter() - start
            self._running = False
            if self.takes_argument:
                self._negative = self.wording = None

    def _second(self, run: Callable[..., Any], pipe: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the denoiser's arguments for the negative prompts. Raises KnobError unless they are one text each."""
        texts = self.negative.texts
        if not texts or not self.negative.is_plain:
            raise KnobError(
                f'method "{self.method.name}" calls the model with the negative prompt in the place of the positive '
                "one, so it needs its text (from negative_prompt= or vsf.encode), one of weight 1 for each prompt"
            )
        each = [own[0] if own else "" for own in texts] * (self._prompts or 1)
        self.is_catching = True
        try:
            return conditions_of(run, pipe, arguments, each[: self._prompts], self.family.conditions)
        finally:
            self.is_catching = False

    @property
    def negative(self) -> Negative:
        """The negatives of the run in progress."""
        assert self._negative is not None
        return self._negative

    def _take_argument(self, arguments: dict[str, Any]) -> None:
        """Move the negatives from the pipeline's arguments to the guidance."""
        for name, value in arguments.items():
            if name.startswith(("negative_prompt_", "negative_pooled_")) and value is not None:
                raise PromptError(
                    f"{name}= has no meaning on an attached pipeline, whose negative_prompt= feeds the guidance alone. "
                    "Leave it out, or detach and use vsf.guide, which leaves the pipeline's own arguments as they are"
                )
        given, prompts = arguments.pop("negative_prompt", None), _prompts(arguments.get("prompt"))
        options = encoding_options(self.pipe, arguments)
        if prompts is not None:
            if given is not None:
                raise PromptError("a vsf.Prompt holds its negatives: leave negative_prompt= out")
            self.take(prompts, options=options)
            texts = [prompt.positive for prompt in prompts]
            arguments["prompt"] = texts[0] if isinstance(arguments["prompt"], Prompt) else texts
        elif isinstance(given, Negative):
            self.use(given)
        elif given is not None:
            self.take(given, options=options)

    def _count_prompts(self, arguments: Mapping[str, Any]) -> None:
        """Note how many prompts the pipeline is called with. Raises PromptError when the negatives do not match."""
        prompt, embeddings = arguments.get("prompt"), arguments.get("prompt_embeds")
        texts = embeddings if prompt is None else prompt
        self._prompts = 1 if texts is None or isinstance(texts, str) else len(texts)
        copies = (arguments.get(f"num_{what}_per_prompt") for what in ("images", "videos"))
        self._samples = self._prompts * next((number for number in copies if number), 1)
        if self._negative is not None and len(self._negative) not in (1, self._prompts):
            raise PromptError(f"{len(self._negative)} negatives for {self._prompts} prompts: give one, or one for each")
        if self.wording is not None:
            self.wording.check(prompt)

    def strength(self, arguments: Mapping[str, Any]) -> float:
        """Return how strongly the method acts on a denoiser call with these arguments. Raises KnobError."""
        if not self._follows_steps:
            return 1.0
        timestep = arguments.get("timestep")
        if self._first_timestep is None:
            self._first_timestep = timestep
        done = self.family.fraction_done(self.pipe, self.schedule.over, timestep, self._first_timestep)
        return self.schedule.strength(done)

    @property
    def takes_turns(self) -> bool:
        """Whether positive and negative prompts have calls of their own, as in all modular pipelines, not one batch."""
        return self.family.guidance == "calls" or self._is_modular

    @property
    def splits_calls(self) -> bool:
        """Whether the pipeline may call the denoiser for its positive prompt and once more without it."""
        return self.pipe is not None and getattr(self.pipe, "do_classifier_free_guidance", True)

    @property
    def _is_modular(self) -> bool:
        return "ModularPipeline" in class_names(self.pipe)

    @property
    def _follows_steps(self) -> bool:
        """Whether the schedule is not the same in all steps."""
        return (self.schedule.start, self.schedule.end, self.schedule.curve) != (0, 1, "constant")

    def conditional_rows(self, arguments: Mapping[str, Any]) -> list[bool]:
        """Tell for each row of a denoiser call whether it stands for a positive prompt. Raises LayoutError.

        Pipelines that do not say whether they use classifier-free guidance stack twice as many rows as pictures if so.
        """
        rows = self.family.conditional_rows(self.pipe, arguments)
        told = self.pipe is None or hasattr(type(self.pipe), "do_classifier_free_guidance")
        if told or self.takes_turns or len(rows) != 2 * self._samples:
            return rows
        return halves(len(rows), first=self.family.guidance == "batch, conditional first")

    def owners(self, conditional: Sequence[bool], negatives: int) -> list[int | None]:
        """Tell for each batch row which negative acts on it, None for none. Raises LayoutError.

        The rows of one prompt (`num_images_per_prompt`) are neighbours.
        """
        prompts = self._prompts or negatives
        live, pictures = sum(conditional), self._samples or prompts
        if live % pictures:
            raise LayoutError(f"{live} conditional rows cannot belong to {pictures} pictures in equal numbers")
        ranks = iter(range(live))
        return [next(ranks) * prompts // live % negatives if row else None for row in conditional]

    def finished_step(self, *, compiled: bool) -> None:
        """Count a denoiser call. Raises NotGuidedError when no attention call of this run was guided."""
        self.report.steps += 1
        self.report.compiled |= compiled
        if self.pace is not None:
            self.report.scales.append(self.pace.finish_step())
        if self.report.calls == self._calls_before and not compiled:
            raise NotGuidedError(
                "a negative prompt was given, but no attention call of the denoiser was guided: "
                f"none of {', '.join(self.report.layers)} attended to image and text as {self.family.name} does"
            )


def _prompts(given: object) -> list[Prompt] | None:
    """Return what was given as a list when it is a Prompt or several, None when it is something else."""
    if isinstance(given, Prompt):
        return [given]
    several = isinstance(given, list | tuple) and given and all(isinstance(one, Prompt) for one in given)
    return list(cast(Sequence[Prompt], given)) if several else None
