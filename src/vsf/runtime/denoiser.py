"""One denoiser under guidance: what its calls and its attention layers do instead of their own."""

import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from vsf.guidance import Guidance, Observation
from vsf.guidance import parameters as knobs
from vsf.hosting import GuidedCall
from vsf.patching.arguments import Arguments
from vsf.patching.function_modes import refuse_modes
from vsf.patching.processor_twins import Twins, require_attention
from vsf.patching.swaps import Swap, owner_of
from vsf.runtime.flights import Flights
from vsf.runtime.guided_layer import GuidedLayer
from vsf.runtime.run import Run
from vsf.runtime.second_pass import Caught, mixed, strength_on
from vsf.runtime.step_caches import StepCaches

COMPILED_MULTIPLE = 16
"""Compiled code is made anew for every length of the negatives, so they are filled up to multiples of this."""

FindRun = Callable[[], Run | None]
"""Returns the run that makes the denoiser call in progress, None where the call is to be left alone."""

_denoisers: weakref.WeakKeyDictionary[nn.Module, dict[Family, "GuidedDenoiser"]] = weakref.WeakKeyDictionary()
_making = threading.Lock()


class GuidedDenoiser:
    """What stands in for the calls of one denoiser, and of its parts, while it is guided.

    It is made once for a model and put onto it again by every `guide` and `attach`, so that compiled code meets the
    same classes and functions as before. It keeps neither the model nor a pipeline alive, and lives as long as the
    model. What belongs to one denoiser call (`run` and all below it) is there during that call alone.
    """

    def __init__(self, module: nn.Module, family: Family) -> None:
        self.family = family
        self._module = weakref.ref(module)
        self._find_run: weakref.WeakMethod[FindRun] | None = None
        methods = {"__call__": self.call}
        if hasattr(type(module), "cache_context"):
            methods["cache_context"] = self.cache_context
        self._swap = Swap(methods, owner=self)
        self._parts: weakref.WeakKeyDictionary[object, Swap] = weakref.WeakKeyDictionary()
        self._twins: dict[bool, Twins] = {}
        self._flights = Flights()
        self._caches = StepCaches()
        self._named: str | None = None
        self._thread: int | None = None
        self._run: Run | None = None
        self.injection: Injection | None = None
        self.guided: GuidedCall | None = None
        self.owners: list[int | None] = []
        self.grid: Grid | None = None
        self.idle: frozenset[str] = frozenset()

    @classmethod
    def of(cls, module: nn.Module, family: Family) -> "GuidedDenoiser":
        """Return the one that this model has. Raises UnsupportedAttentionError for layers that cannot be guided."""
        with _making:
            known = _denoisers.setdefault(module, {})
            if family not in known:
                known[family] = cls(module, family)
        known[family].check()
        return known[family]

    @property
    def run(self) -> Run:
        """The run that makes the denoiser call in progress."""
        assert self._run is not None
        return self._run

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

    def check(self) -> None:
        """Look at the attention layers that there are now. Raises UnsupportedAttentionError."""
        layers = self.family.attention_layers(self.inner)
        for name, (module, _) in layers.items():
            require_attention(name, module)
        modules = [module for module, _ in layers.values()]
        if self._twins and [module for module, _ in self._twins[True].layers()] == modules:
            return
        alike = {role: GuidedLayer(self, None, role) for _, role in layers.values()}
        named = {name: (module, GuidedLayer(self, name, role)) for name, (module, role) in layers.items()}
        self._twins = {
            True: Twins(named, GuidedLayer.around),
            False: Twins({name: (module, alike[role]) for name, (module, role) in layers.items()}),
        }
        self.layers = tuple(layers)
        self._around_layers = [weakref.ref(part) for part in _around(self.inner, self.layers)]

    def idle_layers(self, schedule: Schedule) -> frozenset[str]:
        """Return the layers in which the schedule leaves the method off. Raises KnobError for layers not there."""
        count = len(self.layers)
        return frozenset(name for at, name in enumerate(self.layers) if not schedule.acts_on(at, count))

    def install(self, undo: ExitStack, find_run: FindRun) -> None:
        """Stand in for the calls of the denoiser, and of the parts that its family wants changed.

        Raises AlreadyGuidedError.
        """
        module = self.module
        if owner_of(module) is not None:
            raise already_guided(module)
        for part, overrides in self.family.overrides(self.inner, self.running):
            swap = self._parts.setdefault(part, Swap(overrides))
            swap.put_on(part)
            undo.callback(swap.take_off, part)
        self._find_run = weakref.WeakMethod(find_run)
        self._swap.put_on(module)
        undo.callback(self._take_off, module)

    def end_run(self) -> None:
        """Leave nothing behind that a step of the next run would repeat."""
        self._caches.end(self.inner)

    def _take_off(self, module: nn.Module) -> None:
        self._caches.end(getattr(module, "_orig_mod", module))
        self._swap.take_off(module)
        self._find_run = None
        for twins in self._twins.values():
            twins.forget()

    def running(self) -> Injection | None:
        """Return the injection of the guided denoiser call that this thread makes.

        A call that another thread makes meanwhile, and began before this one, meets layers that stand in for the
        model's own; this is how they tell. Compiled code cannot, so that there no two calls may meet at all.
        """
        if torch.compiler.is_compiling() or self._thread == threading.get_ident():
            return self.injection
        return None

    def guided_call(self) -> GuidedCall | None:
        """Return what this thread's guided denoiser call does to attention layers, as `running` does."""
        if torch.compiler.is_compiling() or self._thread == threading.get_ident():
            return self.guided
        return None

    @contextmanager
    def cache_context(self, original: Callable[..., Any], module: object, name: str, **step: Any) -> Iterator[None]:
        """Stand in for the denoiser's own `cache_context`, listening to the name."""
        run, before = self._run_of_call(), self._named
        turns = run is not None and run.rows.takes_turns
        branches = run.branches_of(self) if run is not None and turns else Branches()
        self._named = name
        try:
            with branches.cache_context(original, module, name, **step):
                yield
        finally:
            self._named = before

    def _run_of_call(self) -> Run | None:
        find_run = None if self._find_run is None else self._find_run()
        return None if find_run is None else find_run()

    def call(self, original: Any, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """Stand in for the denoiser's `__call__`."""
        run = self._run_of_call()
        arguments = None
        if run is not None and run.acts:
            arguments = Arguments.of(type(self.inner).forward, args, kwargs)
        if run is None or arguments is None or (strength := self._strength_of(run, arguments.values)) == 0:
            with self._flights.unguided(self._is_compiled):
                self._caches.follow(self.inner, self._named, guided=False)
                return original(module, *args, **kwargs)
        if torch.is_grad_enabled() and getattr(self.inner, "gradient_checkpointing", False):
            raise UnsupportedAttentionError(
                "gradient checkpointing would recompute the attention unguided: call disable_gradient_checkpointing()"
            )
        call = partial(arguments.call, partial(original, module))
        with self._flights.guided(self._is_compiled()), self._during(run):
            self._caches.follow(self.inner, self._named, guided=True)
            conditional = run.rows.conditional(arguments.values)
            self.owners = run.rows.owners(arguments.values, conditional, len(run.negative))
            self.grid = None
            if run.settings.needs_grid:  # which some families read off positions, and that waits for the device
                self.grid = self.family.grid(self.inner, arguments.values)
            if run.settings.observes and self.grid is not None:
                run.report.begin_step(self.grid)
            if run.settings.method.model_calls == 2:
                return self._called_twice(call, arguments.values, conditional, strength)
            return self._guided(call, arguments.values, conditional, strength)

    def _strength_of(self, run: Run, arguments: Mapping[str, Any]) -> float:
        """Return how strongly the method acts on a denoiser call, 0 for calls without the positive prompt."""
        if run.is_catching:
            raise Caught(arguments)
        text = self.family.text_of(arguments)
        splits = run.rows.takes_turns and run.rows.splits_calls
        if splits and run.branches_of(self).is_unconditional(arguments, text):
            return 0.0
        strength = run.strength(arguments)
        run.report.skipped += strength == 0
        return strength

    @contextmanager
    def _during(self, run: Run) -> Iterator[None]:
        """Hold what belongs to one denoiser call for as long as it lasts."""
        self._run, self._thread = run, threading.get_ident()
        self.idle = self.idle_layers(run.settings.schedule)
        try:
            yield
        finally:
            self._run = self.injection = self.guided = self._thread = None

    def _guided(
        self, call: Callable[..., Any], arguments: Mapping[str, Any], conditional: Sequence[bool], strength: float
    ) -> Any:
        """Make the call with the negatives in its text and the method in its attention layers."""
        run, settings, compiled = self.run, self.run.settings, self._is_compiled()
        text = self.family.text_of(arguments)
        rows = run.laid_out(self.owners, like=text, multiple=COMPILED_MULTIPLE if compiled else 1)
        method = settings.method if run.pace is None else run.pace.method(len(text), text.device)
        layout = settings.method.token_layout
        self.injection = self.family.inject(self.inner, arguments, rows, layout)
        # Numbers are baked into compiled code, tensors are not.
        self.guided = guided = GuidedCall(
            with_tensors(method, text.device) if compiled else method,
            self.injection.text,
            valid=self.injection.valid,
            weights=self.injection.weights,
            unguided=tuple(row for row, length in enumerate(rows.lengths) if not length),
            strength=torch.full((), strength, device=text.device) if compiled else strength,
            region=settings.region,
            grid=self.grid,
            emphasis=self._emphasis(arguments, conditional, text),
            inactive=self.idle,
            record=self._record if settings.observes else None,
        )
        if compiled:
            refuse_modes(module for module, _ in self._twins[True].layers())
        # Compiled code is made for every layer anew where they have an attention of their own.
        named = bool(self.idle) or not compiled
        try:
            with self._twins[named].in_place(), nullcontext() if compiled else self._listening():
                output = call(self.injection.arguments)
        finally:
            run.report.calls += guided.calls
        run.finished_step(self.layers, compiled=compiled)
        return output

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """Let layers that attend to a text alone know what is made from it."""
        with ExitStack() as stack:
            for module, layer in self._twins[True].layers():
                for stop in layer.listen(module):
                    stack.callback(stop)
            yield

    def _called_twice(
        self, call: Callable[..., Any], arguments: Mapping[str, Any], conditional: Sequence[bool], strength: float
    ) -> Any:
        """Make the call, make it again for the negative prompt, and mix."""
        run, method = self.run, self.run.settings.method
        if not all(conditional) or getattr(run.settings.pipe, "do_classifier_free_guidance", False):
            raise KnobError(
                f'method "{method.name}" stands in for the pipeline\'s own classifier-free guidance: '
                "switch that off (guidance_scale=0, or 1), or choose another method"
            )
        output, other = call(arguments), call({**arguments, **run.second})
        own = [strength * (owner is not None and bool(run.negative.lengths[owner])) for owner in self.owners]

        def mix(conditional: Tensor, unconditional: Tensor) -> Tensor:
            last = self.family.channels_last
            place = strength_on(conditional, own, run.settings.region, self.grid, channels_last=last)
            return method.mix(conditional, unconditional, place)

        run.report.steps += 1
        return mixed(mix, output, other)

    def _record(self, name: str, seen: Observation) -> None:
        """Keep what was observed in a layer."""
        self.run.report.record(name, self.owners, seen)
        if self.run.pace is not None:
            self.run.pace.see(seen)

    def _emphasis(
        self, arguments: Mapping[str, Any], conditional: Sequence[bool], text: Tensor
    ) -> tuple[Tensor | None, ...] | None:
        """Return each row's weights of its positive tokens, (tokens,); None where nothing is weighed."""
        wording, injection = self.run.texts.wording, self.injection
        if wording is None or injection is None:
            return None
        tokens = sum(span.length for span in injection.text[0] if span.kind == "positive")
        return self.run.emphasis(self.run.rows.owners(arguments, conditional, len(wording.texts)), tokens, like=text)

    def _is_compiled(self) -> bool:
        """Whether attention calls happen in compiled code, where they cannot be counted."""
        if self.inner is not self.module:
            return True
        for reference in self._around_layers:  # far fewer than all modules, which are too many to visit in each call
            part = reference()
            if part is not None and part._compiled_call_impl is not None:
                return True
        return False


def _around(denoiser: nn.Module, layers: Sequence[str]) -> list[nn.Module]:
    """Return the attention layers and the modules that they are parts of, the denoiser first."""
    names = {"": None}
    for layer in layers:
        parts = layer.split(".")
        names |= dict.fromkeys(".".join(parts[:length]) for length in range(1, len(parts) + 1))
    return [denoiser.get_submodule(name) for name in names]


def with_tensors(method: Guidance, device: torch.device) -> Guidance:
    """Return the method with its numbers as tensors without axes."""
    values = method.knob_values()
    tensors = {}
    for knob in knobs(type(method)):
        if not knob.choices:
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
