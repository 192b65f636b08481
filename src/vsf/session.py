"""A method at work on a live pipeline: what is installed, and what the run in progress needs to know."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from time import perf_counter
from typing import Any

from torch import nn

from vsf.denoiser import GuidedDenoiser, named
from vsf.effect import Report
from vsf.encode import Negative
from vsf.errors import (
    AlreadyGuidedError,
    KnobError,
    LayoutError,
    NotGuidedError,
    PromptError,
)
from vsf.families import find_family
from vsf.guidance import Guidance, Unguided
from vsf.hooks import owner_of, swap_class
from vsf.region import Region
from vsf.schedule import Schedule


class Session:
    """One method on one pipeline (or denoiser): what is installed, and what the run in progress needs to know."""

    def __init__(self, target: Any, method: Guidance, schedule: Schedule, region: Region | None) -> None:
        self.method, self.schedule, self.region = method, schedule, region
        self.family = find_family(target)
        self.family.check(target, self.method)
        self.pipe = None if isinstance(target, nn.Module) else target
        models = self.family.denoisers_of(target)
        if any(owner_of(part) is not None for part in (target, *models)):
            raise AlreadyGuidedError(
                f"this {type(target).__name__}, or the denoiser it shares with another pipeline, is guided already: "
                "leave the outer guide() block or call vsf.detach(pipe) first"
            )
        if self.pipe is None and self._follows_steps:
            raise KnobError("a denoiser on its own has no steps: guide the pipeline, or leave out start, end and curve")
        self.denoisers = [GuidedDenoiser(model, self) for model in models]
        layers = tuple(dict.fromkeys(name for denoiser in self.denoisers for name in denoiser.layers))
        self.report = Report(method=repr(self.method), family=self.family.name, layers=layers)
        self.takes_argument = False
        self._negative: Negative | None = None
        self._prompts: int | None = None
        self._running = False
        self._calls_before = 0
        self.undo = ExitStack()

    def install(self) -> None:
        """Swap the classes of the denoisers and the pipeline, until `undo` is closed."""
        for denoiser in self.denoisers:
            denoiser.install(self.undo)
        if self.pipe is not None:
            self.undo.callback(swap_class(self.pipe, {"__call__": self.run}, owner=self))

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
        self._negative = negative
        self.report.begin(negative)

    def active(self) -> Negative | None:
        """Return the negatives that act on a denoiser call made now. Raises NotGuidedError outside of a run."""
        negative = self._negative
        if negative is None or not any(negative.lengths) or isinstance(self.method, Unguided):
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
        for denoiser in self.denoisers:
            denoiser.branches.begin()
        if self._negative is not None:
            self.report.begin(self._negative)
        try:
            if self.takes_argument:
                self.report.tokens = ()
                self._take_argument(pipe, arguments)
            self._count_prompts(arguments)
            output = original(pipe, **arguments)
            if self.active() is not None and self.report.steps + self.report.skipped == calls:
                raise NotGuidedError("the pipeline ran without calling the denoiser that is guided")
            return output
        finally:
            self.report.seconds += perf_counter() - start
            self._running = False
            self._negative = None if self.takes_argument else self._negative

    def _take_argument(self, pipe: Any, arguments: dict[str, Any]) -> None:
        """Move `negative_prompt` from the pipeline's arguments to the guidance."""
        for name, value in arguments.items():
            if name.startswith(("negative_prompt_", "negative_pooled_")) and value is not None:
                raise PromptError(
                    f"{name}= has no meaning on an attached pipeline, whose negative_prompt= feeds the guidance alone. "
                    "Leave it out, or detach and use vsf.guide, which leaves the pipeline's own arguments as they are"
                )
        given = arguments.pop("negative_prompt", None)
        if given is not None:
            self.use(given if isinstance(given, Negative) else self.family.encode_all(pipe, given))

    def _count_prompts(self, arguments: Mapping[str, Any]) -> None:
        """Note how many prompts the pipeline is called with. Raises PromptError when the negatives do not match."""
        prompt, embeddings = arguments.get("prompt"), arguments.get("prompt_embeds")
        texts = embeddings if prompt is None else prompt
        self._prompts = 1 if texts is None or isinstance(texts, str) else len(texts)
        if self._negative is not None and len(self._negative) not in (1, self._prompts):
            raise PromptError(f"{len(self._negative)} negatives for {self._prompts} prompts: give one, or one for each")

    def strength(self) -> float:
        """Return how strongly the method acts on a denoiser call made now. Raises KnobError."""
        return self.schedule.strength(self.family.fraction_done(self.pipe)) if self._follows_steps else 1.0

    @property
    def splits_calls(self) -> bool:
        """Whether the pipeline may call the denoiser for its positive prompt and once more without it."""
        return self.pipe is not None and getattr(self.pipe, "do_classifier_free_guidance", True)

    @property
    def _follows_steps(self) -> bool:
        """Whether the schedule is not the same in all steps."""
        return (self.schedule.start, self.schedule.end, self.schedule.curve) != (0, 1, "constant")

    def owners(self, conditional: Sequence[bool], negatives: int) -> list[int | None]:
        """Tell for each batch row which negative acts on it, None for none. Raises LayoutError.

        The rows of one prompt (`num_images_per_prompt`) are neighbours.
        """
        prompts = self._prompts or negatives
        live = sum(conditional)
        if live % prompts:
            raise LayoutError(f"{live} conditional rows cannot belong to {prompts} prompts in equal numbers")
        ranks = iter(range(live))
        return [next(ranks) * prompts // live % negatives if row else None for row in conditional]

    def finished_step(self, *, compiled: bool) -> None:
        """Count a denoiser call. Raises NotGuidedError when no attention call of this run was guided."""
        self.report.steps += 1
        self.report.compiled |= compiled
        if self.report.calls == self._calls_before and not compiled:
            raise NotGuidedError(
                "a negative prompt was given, but no attention call of the denoiser was guided: "
                f"none of {', '.join(self.report.layers)} attended to image and text as {self.family.name} does"
            )
