"""One denoiser at work under guidance: what its calls and its attention layers do instead of their own."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from vsf.errors import UnsupportedAttentionError
from vsf.families.base import Injection, Role
from vsf.families.branches import Branches
from vsf.grid import Grid
from vsf.guidance import Control, guided_attention
from vsf.hooks import Attend, Twins, swap_class

if TYPE_CHECKING:
    from vsf.session import Session


class GuidedDenoiser:
    """One denoiser of a session: its calls get the negatives, its attention layers the method."""

    def __init__(self, module: nn.Module, session: Session) -> None:
        self.module, self.session = module, session
        self.inner: nn.Module = getattr(module, "_orig_mod", module)
        self.layers = session.family.attention_layers(self.inner)
        chosen = enumerate(self.layers)
        self.idle = {name for at, name in chosen if not session.schedule.acts_on(at, len(self.layers))}
        self.twins = Twins(self._attends())
        self.branches = Branches()
        self.injection: Injection | None = None
        self.owners: list[int | None] = []
        self.grid = Grid(1, 1)
        self.strength = 1.0
        self._spread: dict[int, Tensor] = {}

    def install(self, undo: ExitStack) -> None:
        """Swap the classes of the denoiser, and of the parts that its family wants changed."""
        for part, methods in self.session.family.overrides(self.inner, lambda: self.injection):
            undo.callback(swap_class(part, methods))
        methods = {"__call__": self.call}
        if self.session.family.guidance == "calls" and hasattr(type(self.module), "cache_context"):
            methods["cache_context"] = self.branches.cache_context
        undo.callback(swap_class(self.module, methods, owner=self.session))

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
        text = family.text_of(arguments)
        if family.guidance == "calls" and session.splits_calls and self.branches.is_unconditional(arguments, text):
            return original(module, *args, **kwargs)
        self.strength = session.strength()
        if self.strength == 0:
            session.report.skipped += 1
            return original(module, *args, **kwargs)
        if torch.is_grad_enabled() and getattr(self.inner, "gradient_checkpointing", False):
            raise UnsupportedAttentionError(
                "gradient checkpointing would recompute the attention unguided: call disable_gradient_checkpointing()"
            )
        self.owners = session.owners(family.conditional_rows(session.pipe, arguments), len(negative))
        rows = negative.rows(self.owners, like=text)
        self.grid = family.grid(self.inner, arguments)
        self._spread.clear()
        session.report.begin_step(self.grid)
        layout = getattr(session.method, "layout", "paper")
        self.injection = family.inject(self.inner, arguments, rows, layout)
        try:
            with self.twins.in_place():
                output = original(module, **self.injection.arguments)
        finally:
            self.injection = None
        session.finished_step(compiled=self._is_compiled())
        return output

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
        control = Control(injection.weights, self._strength_in(name, role, images, query))
        if not torch.compiler.is_compiling() and not control.is_off:
            self.session.report.calls += 1
            if name is not None and role.picture:
                control = replace(control, watch=partial(self.session.report.record, name, self.owners))
        return guided_attention(
            self.session.method,
            query,
            key,
            value,
            layouts if len(layouts) > 1 else layouts[0],
            kind="cross" if role.kind == "cross" else "joint",
            negative_valid=injection.valid,
            bias=options.get("attn_mask"),
            scale=options.get("scale"),
            control=control,
        )

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


def named(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Give the positional arguments of a method (without self) their names. Raises TypeError as the call would."""
    bound = inspect.signature(function).bind_partial(None, *args).arguments
    positional = dict(list(bound.items())[1:])
    if twice := positional.keys() & kwargs.keys():
        raise TypeError(f"got multiple values for {', '.join(sorted(twice))}")
    return {**positional, **kwargs}
