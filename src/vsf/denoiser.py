"""One denoiser at work under guidance: what its calls and its attention layers do instead of their own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from vsf.errors import KnobError, UnsupportedAttentionError
from vsf.families.base import Injection, Role
from vsf.families.branches import Branches
from vsf.grid import Grid
from vsf.guidance import Control, Guidance, HostCall, Observation, guided_attention, knobs, model_calls
from vsf.hooks import Attend, Twins, swap_class
from vsf.twice import Caught, mixed, strength_on

if TYPE_CHECKING:
    from vsf.session import Session


COMPILED_MULTIPLE = 16
"""Compiled code is made anew for every length of the negatives, so they are filled up to multiples of this."""


class GuidedDenoiser:
    """One denoiser of a session: its calls get the negatives, its attention layers the method."""

    def __init__(self, module: nn.Module, session: Session) -> None:
        self.module, self.session = module, session
        self.inner: nn.Module = getattr(module, "_orig_mod", module)
        self.layers = session.family.attention_layers(self.inner)
        self.idle = self._idle()
        self.twins = Twins(self._attends())
        self.branches = Branches()
        self.injection: Injection | None = None
        self.owners: list[int | None] = []
        self.unguided: tuple[int, ...] = ()
        self.grid = Grid(1, 1)
        self.method: Guidance = session.method
        self.strength: float | Tensor = 1.0
        self.emphasis: tuple[Tensor | None, ...] | None = None
        self._spread: dict[int, Tensor] = {}

    def follow_schedule(self) -> None:
        """Take the session's choice of layers, which has changed."""
        if self.idle != (idle := self._idle()):
            self.idle = idle
            self.twins = Twins(self._attends())

    def install(self, undo: ExitStack) -> None:
        """Swap the classes of the denoiser, and of the parts that its family wants changed."""
        for part, methods in self.session.family.overrides(self.inner, lambda: self.injection):
            undo.callback(swap_class(part, methods))
        methods = {"__call__": self.call}
        if self.session.takes_turns and hasattr(type(self.module), "cache_context"):
            methods["cache_context"] = self.branches.cache_context
        undo.callback(swap_class(self.module, methods, owner=self.session))

    def _idle(self) -> set[str]:
        """Return the layers in which the schedule leaves the method off. Raises KnobError for layers not there."""
        count = len(self.layers)
        return {name for at, name in enumerate(self.layers) if not self.session.schedule.acts_on(at, count)}

    def _attends(self) -> dict[str, tuple[nn.Module, Attend]]:
        """Give each layer an attention that knows its name, or where that is not needed in compiled code, one for all.

        Layers with an attention of their own are compiled one by one.
        """
        named = bool(self.idle) or not self._is_compiled()
        keys = {name: (name if named else None, role) for name, (_, role) in self.layers.items()}
        attend = {key: partial(self.attend, *key) for key in keys.values()}
        return {name: (module, attend[keys[name]]) for name, (module, _) in self.layers.items()}

    def call(self, original: Any, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """Stand in for the denoiser's `__call__`."""
        session = self.session
        negative, family = session.active(), session.family
        if negative is None:
            return original(module, *args, **kwargs)
        arguments = named(type(self.inner).forward, args, kwargs)
        if session.is_catching:
            raise Caught(arguments)
        text = family.text_of(arguments)
        if session.takes_turns and session.splits_calls and self.branches.is_unconditional(arguments, text):
            return original(module, *args, **kwargs)
        strength = session.strength(arguments)
        if strength == 0:
            session.report.skipped += 1
            return original(module, *args, **kwargs)
        if torch.is_grad_enabled() and getattr(self.inner, "gradient_checkpointing", False):
            raise UnsupportedAttentionError(
                "gradient checkpointing would recompute the attention unguided: call disable_gradient_checkpointing()"
            )
        conditional = session.conditional_rows(arguments)
        self.owners = session.owners(conditional, len(negative))
        self.grid = family.grid(self.inner, arguments)
        session.report.begin_step(self.grid)
        call = partial(original, module)
        if model_calls(session.method) == 2:
            return self._called_twice(call, arguments, conditional, strength)
        return self._guided(call, arguments, conditional, strength)

    def _guided(
        self, call: Callable[..., Any], arguments: Mapping[str, Any], conditional: Sequence[bool], strength: float
    ) -> Any:
        """Make the call with the negatives in its text and the method in its attention layers."""
        session, compiled = self.session, self._is_compiled()
        negative, text = session.negative, session.family.text_of(arguments)
        rows = negative.rows(self.owners, like=text, multiple=COMPILED_MULTIPLE if compiled else 1)
        # Numbers are baked into compiled code, tensors are not.
        self.strength = torch.tensor(strength, device=text.device) if compiled else strength
        self.method = session.method if session.pace is None else session.pace.method(len(text), text.device)
        self.method = with_tensors(self.method, text.device) if compiled else self.method
        self.unguided = tuple(row for row, length in enumerate(rows.lengths) if not length)
        self._spread.clear()
        layout = getattr(session.method, "layout", "paper")
        self.injection = session.family.inject(self.inner, arguments, rows, layout)
        self.emphasis = self._emphasis(conditional, text)
        try:
            with self.twins.in_place():
                output = call(**self.injection.arguments)
        finally:
            self.injection = None
        session.finished_step(compiled=compiled)
        return output

    def _called_twice(
        self, call: Callable[..., Any], arguments: Mapping[str, Any], conditional: Sequence[bool], strength: float
    ) -> Any:
        """Make the call, make it again for the negative prompt, and mix."""
        session = self.session
        if not all(conditional) or getattr(session.pipe, "do_classifier_free_guidance", False):
            raise KnobError(
                f'method "{session.method.name}" stands in for the pipeline\'s own classifier-free guidance: '
                "switch that off (guidance_scale=0, or 1), or choose another method"
            )
        output, other = call(**arguments), call(**{**arguments, **session.second})
        own = [strength * (owner is not None and bool(session.negative.lengths[owner])) for owner in self.owners]

        def mix(conditional: Tensor, unconditional: Tensor) -> Tensor:
            last = session.family.channels_last
            place = strength_on(conditional, own, session.region, self.grid, channels_last=last)
            return session.method.mix(conditional, unconditional, place)  # type: ignore[attr-defined]

        session.report.steps += 1
        return mixed(mix, output, other)

    def attend(
        self, name: str | None, role: Role, query: Tensor, key: Tensor, value: Tensor, options: Mapping[str, Any]
    ) -> Tensor | None:
        """Guide one attention call; None for the calls that see something else, such as an adapter's image tokens."""
        injection, keys = self.injection, key.shape[2]
        assert injection is not None
        if not injection.is_for(role, query.shape[2], keys):
            return None
        for option in ("is_causal", "enable_gqa", "dropout_p", "parallel_config"):
            if options.get(option):
                raise UnsupportedAttentionError(f"the model attends with {option}, which guidance cannot follow")
        layouts = [role.layout(spans, keys) for spans in injection.text]
        images = query.shape[2] if role.kind == "cross" else layouts[0].count(["image"])
        strength = self._strength_in(name, role, images, query)
        control = Control(injection.weights, strength, self.emphasis, unguided=self.unguided)
        if not torch.compiler.is_compiling() and not control.is_off:
            self.session.report.calls += 1
            if name is not None and role.picture:
                control = replace(control, watch=partial(self._record, name))
        kind: Literal["joint", "cross"] = "cross" if role.kind == "cross" else "joint"
        host = HostCall(query, key, value, kind, options.get("attn_mask"), options.get("scale"))
        laid = layouts if len(layouts) > 1 else layouts[0]
        return guided_attention(self.method, host, laid, negative_valid=injection.valid, control=control)

    def _record(self, name: str, seen: Observation) -> None:
        """Keep what was observed in a layer."""
        self.session.report.record(name, self.owners, seen)
        if self.session.pace is not None:
            self.session.pace.see(seen)

    def _emphasis(self, conditional: Sequence[bool], text: Tensor) -> tuple[Tensor | None, ...] | None:
        """Return each row's weights of its positive tokens, (tokens,); None where nothing is weighed."""
        wording, injection = self.session.wording, self.injection
        if wording is None or injection is None:
            return None
        tokens = sum(span.length for span in injection.text[0] if span.kind == "positive")
        return wording.rows(self.session.owners(conditional, len(wording.texts)), tokens, like=text)

    def _strength_in(self, name: str | None, role: Role, tokens: int, like: Tensor) -> float | Tensor:
        """Return the strength in a layer of so many image tokens: a number, or with a mask one for each token."""
        region = self.session.region
        if name in self.idle or role.kind == "text":
            return 0.0
        if region is None or not role.picture:
            return self.strength
        if tokens not in self._spread:
            grid = self.grid.fit(tokens)
            spread = self.strength * region.on(grid.height, grid.width).flatten().repeat(grid.frames)
            behind = spread.new_zeros(tokens - grid.tokens)
            self._spread[tokens] = torch.cat([spread, behind]).to(like.device)
        return self._spread[tokens]

    def _is_compiled(self) -> bool:
        """Whether attention calls happen in compiled code, where they cannot be counted."""
        parts = self.inner.modules()
        return self.inner is not self.module or any(getattr(part, "_compiled_call_impl", None) for part in parts)


def with_tensors(method: Guidance, device: torch.device) -> Guidance:
    """Return the method with its numbers as tensors without axes."""
    numbers = {knob.name: getattr(method, knob.name) for knob in knobs(type(method)) if not knob.choices}
    tensors = {name: torch.as_tensor(value, device=device) for name, value in numbers.items()}
    return replace(method, **tensors)  # type: ignore[type-var]


def named(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Give the positional arguments of a method (without self) their names. Raises TypeError as the call would."""
    bound = inspect.signature(function).bind_partial(None, *args).arguments
    positional = dict(list(bound.items())[1:])
    if twice := positional.keys() & kwargs.keys():
        raise TypeError(f"got multiple values for {', '.join(sorted(twice))}")
    return {**positional, **kwargs}
