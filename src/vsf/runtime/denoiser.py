"""Guides the calls of one denoiser: overrides the call itself and, while it lasts, its attention layers."""

import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from vsf.controls.grid import Grid
from vsf.controls.schedule import Schedule
from vsf.errors import AlreadyGuidedError, KnobError, UnsupportedAttentionError
from vsf.families.base.branches import Branches
from vsf.families.base.family import Family, Injection
from vsf.guidance import Guidance, Observation, knobs
from vsf.hosting import GuidedCall, Role
from vsf.patching.arguments import Arguments
from vsf.patching.function_modes import refuse_modes
from vsf.patching.hosts import CallArguments
from vsf.patching.processor_twins import ProcessorTwins, require_attention
from vsf.patching.swaps import Original, Swap, owner_of
from vsf.runtime.flights import Flights
from vsf.runtime.guided_layer import GuidedLayer
from vsf.runtime.parallel import check_parallel
from vsf.runtime.run import Run
from vsf.runtime.second_pass import StopAtDenoiser, mixed, strength_on
from vsf.runtime.step_caches import StepCaches
from vsf.text.embeddings import NegativeRows

COMPILED_MULTIPLE = 16
"""For compiled models, negatives are padded to multiples of this: every new length is compiled again."""

FindRun = Callable[[], Run | None]
"""Returns the run that makes the denoiser call in progress, None for a call that is not to be guided."""

_denoisers: weakref.WeakKeyDictionary[nn.Module, dict[Family, "GuidedDenoiser"]] = weakref.WeakKeyDictionary()
_making = threading.Lock()


class GuidedDenoiser:
    """The overrides of one denoiser, and the state of the guided call that it is in.

    It is made once for a model and installed again by every `guide` and `attach`: compiled code has guards on the
    classes and functions that it met, and would be compiled again for others. It lives as long as the model, and holds
    the model and the session by weak references, so that it keeps neither of them alive.

    Attributes:
        layers: names of the attention layers to guide.
        injection: the arguments of the guided call in progress, negatives included; None between calls.
        guided: guides the attention layers in that call; None between calls.
        row_to_prompt: for each batch row of that call the prompt whose negatives act on it, None for none.
        grid: how the image tokens of that call lie in the picture; None where nothing needs it.
    """

    def __init__(self, module: nn.Module, family: Family) -> None:
        self.family = family
        self._module = weakref.ref(module)
        self._find_run: weakref.WeakMethod[FindRun] | None = None
        overrides = {"__call__": self.call}
        if hasattr(type(module), "cache_context"):
            overrides["cache_context"] = self.cache_context
        self._swap = Swap(overrides, owner=self)
        self._part_swaps: weakref.WeakKeyDictionary[object, Swap] = weakref.WeakKeyDictionary()
        # With layers by name, attention calls can be counted, and a schedule can leave layers out.
        self._named_twins = ProcessorTwins({})
        # torch.compile compiles a block again for every attention function, so there all layers of a role share one.
        self._shared_twins = ProcessorTwins({})
        self.layers: tuple[str, ...] = ()
        self._modules_around_layers: list[weakref.ref[nn.Module]] = []
        self._flights = Flights()
        self._caches = StepCaches()
        self._cache_name: str | None = None
        # The guided call in progress:
        self._thread: int | None = None
        self._run: Run | None = None
        self.injection: Injection | None = None
        self.guided: GuidedCall | None = None
        self.row_to_prompt: list[int | None] = []
        self.grid: Grid | None = None

    @classmethod
    def of(cls, module: nn.Module, family: Family) -> "GuidedDenoiser":
        """Return the one that this model has, made at the first call.

        Raises:
            UnsupportedAttentionError: an attention layer cannot be guided.
        """
        with _making:
            by_family = _denoisers.setdefault(module, {})
            if family not in by_family:
                by_family[family] = cls(module, family)
        by_family[family].find_layers()
        return by_family[family]

    @property
    def module(self) -> nn.Module:
        """The denoiser, as the pipeline holds it."""
        module = self._module()
        assert module is not None
        return module

    @property
    def inner(self) -> nn.Module:
        """The denoiser itself, where torch.compile has wrapped it."""
        module = self.module
        return getattr(module, "_orig_mod", module)

    @property
    def run(self) -> Run:
        """The run that makes the denoiser call in progress."""
        assert self._run is not None
        return self._run

    # Installing -------------------------------------------------------------------------------------------------------

    def find_layers(self) -> None:
        """Find the attention layers that the model has now. Raises UnsupportedAttentionError."""
        layers = self.family.attention_layers(self.inner)
        for name, (module, _) in layers.items():
            require_attention(name, module)
        modules = [module for module, _ in layers.values()]
        if [module for module, _ in self._named_twins.layers()] == modules:
            return
        by_role: dict[Role, GuidedLayer] = {}
        named_layers = {}
        shared_layers = {}
        for name, (module, role) in layers.items():
            named_layers[name] = module, GuidedLayer(self, name, role)
            shared_layers[name] = module, by_role.setdefault(role, GuidedLayer(self, None, role))
        self._named_twins = ProcessorTwins(named_layers, GuidedLayer.around)
        self._shared_twins = ProcessorTwins(shared_layers)
        self.layers = tuple(layers)
        self._modules_around_layers = [weakref.ref(module) for module in _around(self.inner, self.layers)]

    def inactive_layers(self, schedule: Schedule) -> frozenset[str]:
        """Return the names of the layers in which the schedule leaves the method off.

        Raises:
            KnobError: the schedule names layers that the model does not have.
        """
        count = len(self.layers)
        inactive = set()
        for index, name in enumerate(self.layers):
            if not schedule.acts_on(index, count):
                inactive.add(name)
        return frozenset(inactive)

    def install(self, undo: ExitStack, find_run: FindRun) -> None:
        """Override the calls of the denoiser and the methods of its parts that its family wants changed.

        Args:
            undo: takes the functions that undo all this.
            find_run: a bound method, held weakly, so that the denoiser does not keep a pipeline alive.

        Raises:
            AlreadyGuidedError: the denoiser is guided by another session.
        """
        module = self.module
        if owner_of(module) is not None:
            raise already_guided(module)
        for part, overrides in self.family.overrides(self.inner, self.running):
            swap = self._part_swaps.setdefault(part, Swap(overrides))
            swap.put_on(part)
            undo.callback(swap.take_off, part)
        self._find_run = weakref.WeakMethod(find_run)
        self._swap.put_on(module)
        undo.callback(self._uninstall, module)

    def _uninstall(self, module: nn.Module) -> None:
        self._caches.end(getattr(module, "_orig_mod", module))
        self._swap.take_off(module)
        self._find_run = None
        self._named_twins.forget()
        self._shared_twins.forget()

    # Overrides --------------------------------------------------------------------------------------------------------

    def call(self, original: Original, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """Override the denoiser's `__call__`."""
        run = self._run_of_call()
        if run is None or not run.acts:
            return self._call_unguided(partial(original, module, *args, **kwargs))
        arguments = Arguments.of(type(self.inner).forward, args, kwargs)
        strength = self._strength_of(run, arguments.values)
        if strength == 0:
            return self._call_unguided(partial(original, module, *args, **kwargs))
        if torch.is_grad_enabled() and getattr(self.inner, "gradient_checkpointing", False):
            raise UnsupportedAttentionError(
                "gradient checkpointing would recompute the attention unguided: call disable_gradient_checkpointing()"
            )
        check_parallel(self.inner, run.settings)
        call = partial(arguments.call, partial(original, module))
        with self._flights.guided(self._is_compiled()), self._during(run):
            self._caches.follow(self.inner, self._cache_name, guided=True)
            conditional = run.rows.conditional(arguments.values)
            self.row_to_prompt = run.rows.row_to_prompt(arguments.values, conditional, len(run.negative))
            self.grid = None
            if run.needs_grid:  # some families read it off positions on the device, which has to be waited for
                self.grid = self.family.grid(self.inner, arguments.values)
                if run.settings.places.are_timed:
                    self.grid = run.timed(self.grid, self.inner)
            if run.settings.observes and self.grid is not None:
                run.report.begin_step(self.grid)
            if run.calls_twice:
                return self._call_twice(call, arguments.values, conditional, strength)
            return self._call_guided(call, arguments.values, conditional, strength)

    @contextmanager
    def cache_context(self, original: Original, module: object, name: str, **step: Any) -> Iterator[None]:
        """Override the denoiser's own `cache_context`, to learn the name that the pipeline gives its next call."""
        run = self._run_of_call()
        # Where all rows come in one batch there is nothing to tell apart, and nobody asks these branches.
        branches = Branches()
        if run is not None and run.rows.takes_turns:
            branches = run.branches_of(self)
        before = self._cache_name
        self._cache_name = name
        try:
            with branches.cache_context(original, module, name, **step):
                yield
        finally:
            self._cache_name = before

    def running(self) -> Injection | None:
        """Return the injection of the guided denoiser call that this thread makes, None where it makes none.

        A call of another thread that began before this one meets layers that are overridden; this is how they tell.
        Compiled code cannot ask for the thread, so there `Flights` lets no two calls meet at all.
        """
        if torch.compiler.is_compiling() or self._thread == threading.get_ident():
            return self.injection
        return None

    def guided_call(self) -> GuidedCall | None:
        """Return the object that guides the attention layers in this thread's call, None as `running` does."""
        if torch.compiler.is_compiling() or self._thread == threading.get_ident():
            return self.guided
        return None

    def end_run(self) -> None:
        """Leave nothing behind in step caches that the next run would repeat."""
        self._caches.end(self.inner)

    # One call ---------------------------------------------------------------------------------------------------------

    def _run_of_call(self) -> Run | None:
        find_run = None if self._find_run is None else self._find_run()
        return None if find_run is None else find_run()

    def _strength_of(self, run: Run, arguments: CallArguments) -> float:
        """Return how strongly the method acts on a denoiser call, 0 for calls without the positive prompt."""
        if run.stops_at_denoiser:
            raise StopAtDenoiser(arguments)
        text = self.family.text_of(arguments)
        may_be_unconditional = run.rows.takes_turns and run.rows.splits_calls
        if may_be_unconditional and run.branches_of(self).is_unconditional(arguments, text):
            return 0.0
        strength = run.strength(arguments)
        run.report.skipped += strength == 0
        return strength

    def _call_unguided(self, call: Callable[[], object]) -> object:
        with self._flights.unguided(self._is_compiled):
            self._caches.follow(self.inner, self._cache_name, guided=False)
            return call()

    @contextmanager
    def _during(self, run: Run) -> Iterator[None]:
        """Hold the state of one guided denoiser call for as long as it lasts."""
        self._run = run
        self._thread = threading.get_ident()
        try:
            yield
        finally:
            self._run = None
            self._thread = None
            self.injection = None
            self.guided = None

    def _call_guided(
        self,
        call: Callable[[CallArguments], object],
        arguments: CallArguments,
        conditional: Sequence[bool],
        strength: float,
    ) -> Any:
        """Make the call with the negatives in its text and the method in its attention layers."""
        run = self.run
        settings = run.settings
        compiled = self._is_compiled()
        text = self.family.text_of(arguments)
        negatives = run.negative_rows(self.row_to_prompt, like=text, multiple=COMPILED_MULTIPLE if compiled else 1)
        method = settings.method
        if run.auto_scaler is not None:
            method = run.auto_scaler.method(len(text), text.device)
        self.injection = self.family.inject(self.inner, arguments, negatives, settings.method.token_layout)
        inactive = self.inactive_layers(settings.schedule)
        # torch.compile bakes numbers into the code and recompiles for others; tensors are inputs of the code.
        self.guided = guided = GuidedCall(
            with_tensors(method, text.device) if compiled else method,
            self.injection.text,
            valid=self.injection.valid,
            weights=self.injection.weights,
            sound_weights=negatives.sound_weights,
            unguided=_unguided(negatives),
            strength=torch.full((), strength, device=text.device) if compiled else strength,
            sound_strength=settings.places.sound_strength,
            region=settings.places.region,
            places=run.places_of(self.row_to_prompt),
            grid=self.grid,
            emphasis=self._token_weights(arguments, conditional, text),
            inactive=inactive,
            negative_keys=self.injection.negative_keys,
            record=self._record if settings.observes else None,
        )
        if compiled:
            refuse_modes(module for module, _ in self._named_twins.layers())
        by_name = inactive or self.injection.negative_keys is not None
        twins = self._named_twins if by_name or not compiled else self._shared_twins
        try:
            with twins.in_place(), nullcontext() if compiled else self._listening():
                output = call(self.injection.arguments)
        finally:
            run.report.calls += guided.calls
        run.finish_step(self.layers, compiled=compiled)
        return output

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """Let cross-attention layers see, during a call, the values that their projections make of the text."""
        with ExitStack() as stack:
            for module, layer in self._named_twins.layers():
                for stop in layer.listen(module):
                    stack.callback(stop)
            yield

    def _call_twice(
        self,
        call: Callable[[CallArguments], object],
        arguments: CallArguments,
        conditional: Sequence[bool],
        strength: float,
    ) -> Any:
        """Make the call, make it again under the negative prompt, and mix both outputs."""
        run = self.run
        settings = run.settings
        if not all(conditional) or getattr(settings.pipe, "do_classifier_free_guidance", False):
            raise KnobError(
                f'method "{settings.method.name}" stands in for the pipeline\'s own classifier-free guidance: '
                "switch that off (guidance_scale=0, or 1), or choose another method"
            )
        output = call(arguments)
        second_output = call({**arguments, **run.second_pass})
        strengths = []
        for prompt in self.row_to_prompt:
            has_negative = prompt is not None and run.negative.lengths[prompt] > 0
            strengths.append(strength * has_negative)

        axes = {"channels_last": self.family.channels_last, "frames_first": self.family.frames_first}

        def mix(conditional: Tensor, unconditional: Tensor) -> Tensor:
            share = strength_on(conditional, strengths, settings.places.region, self.grid, **axes)
            return settings.method.mix(conditional, unconditional, share)

        run.report.steps += 1
        return mixed(mix, output, second_output)

    def _record(self, name: str, seen: Observation) -> None:
        """Pass an observation in a layer on to the report and the automatic scale."""
        self.run.report.record(name, self.row_to_prompt, seen)
        if self.run.auto_scaler is not None:
            self.run.auto_scaler.see(seen)

    def _token_weights(
        self, arguments: CallArguments, conditional: Sequence[bool], text: Tensor
    ) -> tuple[Tensor | None, ...] | None:
        """Return each row's weights of its positive tokens, (tokens,); None where nothing is weighed."""
        weights = self.run.texts.token_weights
        if weights is None or self.injection is None:
            return None
        # Families whose words can be weighted give every row the same number of positive tokens, padding included.
        tokens = 0
        for span in self.injection.text[0]:
            if span.kind == "positive":
                tokens += span.length
        row_to_prompt = self.run.rows.row_to_prompt(arguments, conditional, len(weights.texts))
        return self.run.token_weights(row_to_prompt, tokens, like=text)

    def _is_compiled(self) -> bool:
        """Tell whether attention calls happen in compiled code, where they cannot be counted."""
        if self.inner is not self.module:
            return True
        # A module inside may be compiled too. Only those around layers matter, and all would be too many for each call.
        for reference in self._modules_around_layers:
            module = reference()
            if module is not None and module._compiled_call_impl is not None:
                return True
        return False


def _around(denoiser: nn.Module, layers: Sequence[str]) -> list[nn.Module]:
    """Return the denoiser, the attention layers and the modules between them, the denoiser first."""
    names = {"": None}  # a dict keeps the order, unlike a set
    for layer in layers:
        parts = layer.split(".")
        for length in range(1, len(parts) + 1):
            names[".".join(parts[:length])] = None
    return [denoiser.get_submodule(name) for name in names]


def _unguided(negatives: NegativeRows) -> tuple[int, ...] | None:
    """Return the batch rows without a negative, None where some may lack one in the picture or the sound alone."""
    if negatives.sound_weights is not None:
        return None
    return tuple(row for row, length in enumerate(negatives.lengths) if not length)


def with_tensors(method: Guidance, device: torch.device) -> Guidance:
    """Return the method with its numbers as tensors without axes."""
    values = method.knob_values()
    tensors = {}
    for knob in knobs(type(method)):
        if knob.choices:
            continue
        value = values[knob.name]
        tensors[knob.name] = value.to(device) if isinstance(value, Tensor) else torch.full((), value, device=device)
    return method.with_knobs(**tensors)


def already_guided(target: object) -> AlreadyGuidedError:
    """Return the error for a pipeline or denoiser that is guided already."""
    return AlreadyGuidedError(
        f"this {type(target).__name__}, or the denoiser it shares with another pipeline, is guided already, in this "
        "thread or another: leave the outer guide() block or call vsf.detach(pipe) first. Each guided pipeline needs a "
        "denoiser of its own; encoders may be shared"
    )
