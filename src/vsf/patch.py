"""Guide a live pipeline: one family and one method put onto it, and taken off with nothing left behind."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from vsf.effect import Report
from vsf.encode import Negative
from vsf.errors import (
    AlreadyGuidedError,
    LayoutError,
    NotGuidedError,
    PromptError,
    UnknownNameError,
    UnsupportedAttentionError,
)
from vsf.families import find_family
from vsf.families.base import Injection, Role
from vsf.guidance import Guidance, Unguided, guided_attention
from vsf.guidance import method as make_method
from vsf.hooks import Twins, owner_of, swap_class

Texts = str | Sequence[str]


@contextmanager
def guide(
    pipe: Any,
    negative_prompt: Texts | None = None,
    *,
    negative: Negative | None = None,
    method: str | Guidance = "vsf",
) -> Iterator[Report]:
    """Guide every call of a diffusers pipeline inside the block away from a negative prompt.

    pipe: a pipeline of a supported family. Its own `negative_prompt=` argument stays with classifier-free guidance.
        Also a denoiser on its own, together with `negative`; then every batch row is guided.
    negative_prompt: one text for all prompts, or one per prompt; "" leaves its images as they are, to the last bit.
    negative: the same from `vsf.encode`, for pipelines whose text encoders are freed.
    method: a name, or an instance such as `vsf.ValueSignFlip(scale=1.5)`.

    Yields the Report. Raises UnsupportedPipelineError, UnsupportedAttentionError, AlreadyGuidedError, PromptError and
    KnobError before anything runs, NotGuidedError when a run turns out not to have been guided.
    """
    session = _Session(pipe, method)
    if (negative_prompt is None) == (negative is None):
        raise PromptError("give either negative_prompt=, texts, or negative=, the result of vsf.encode")
    session.use(encode(pipe, negative_prompt) if negative is None else negative)  # type: ignore[arg-type]
    session.install()
    try:
        yield session.report
    finally:
        session.undo.close()


def attach(pipe: Any, *, method: str | Guidance = "vsf") -> Report:
    """Let the pipeline's own `negative_prompt=` argument feed the guidance, until `detach`.

    The argument takes a text, one per prompt, or a Negative from `vsf.encode`, and is added where a pipeline has none.
    Under classifier-free guidance the unconditional rows are those of the empty prompt. Other negative arguments
    (`negative_prompt_2`, embeddings) are refused with a PromptError.

    Returns the Report, which each run adds to. Raises as `guide` does.
    """
    if isinstance(pipe, nn.Module):
        raise PromptError("attach needs a pipeline, whose negative_prompt= it takes over; guide takes a denoiser")
    session = _Session(pipe, method)
    session.takes_argument = True
    session.install()
    return session.report


def detach(pipe: Any) -> None:
    """Undo `attach`. Raises NotGuidedError for a pipeline that is not attached."""
    session = owner_of(pipe)
    if session is None or not session.takes_argument:
        raise NotGuidedError(f"this {type(pipe).__name__} is not attached: vsf.attach(pipe) comes first")
    session.undo.close()


def encode(pipe: Any, texts: Texts) -> Negative:
    """Encode negative prompts with the pipeline's own encoders, without padding; "" becomes no token at all.

    Raises PromptError when the encoders are gone, UnsupportedPipelineError for an unknown pipeline.
    """
    family = find_family(pipe)
    if isinstance(pipe, nn.Module):
        raise PromptError("a denoiser cannot encode texts: pass negative=vsf.encode(pipe, texts) of its pipeline")
    return family.encode_all(pipe, [texts] if isinstance(texts, str) else list(texts))


class _Session:
    """One method on one pipeline (or denoiser): what is installed, and what the run in progress needs to know."""

    def __init__(self, target: Any, method: str | Guidance) -> None:
        self.method = _resolved(method)
        self.family = find_family(target)
        self.family.check(target, self.method)
        self.pipe = None if isinstance(target, nn.Module) else target
        models = self.family.denoisers_of(target)
        if any(owner_of(part) is not None for part in (target, *models)):
            raise AlreadyGuidedError(
                f"this {type(target).__name__}, or the denoiser it shares with another pipeline, is guided already: "
                "leave the outer guide() block or call vsf.detach(pipe) first"
            )
        self.denoisers = [_GuidedDenoiser(model, self) for model in models]
        layers = tuple(name for denoiser in self.denoisers for name in denoiser.layers)
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
            self.undo.callback(denoiser.twins.close)
            self.undo.callback(swap_class(denoiser.module, {"__call__": denoiser.call}, owner=self))
        if self.pipe is not None:
            self.undo.callback(swap_class(self.pipe, {"__call__": self.run}, owner=self))

    def use(self, negative: Negative) -> None:
        """Take these negatives for what is run next. Raises PromptError."""
        if not isinstance(negative, Negative):
            raise PromptError(
                f"negative= takes what vsf.encode returns, got {type(negative).__name__}. Wrap your own embeddings: "
                "vsf.Negative.from_padded(embeddings, mask), or vsf.Negative((rows, ...)) when they hold no padding"
            )
        if getattr(self.method, "special_tokens", "keep") == "strip" and any(negative.lengths):
            negative = negative.stripped()
        self._negative = negative
        self.report.tokens = negative.lengths

    def active(self) -> Negative | None:
        """Return the negatives that act on a denoiser call made now. Raises NotGuidedError outside of a run."""
        negative = self._negative
        if negative is None or not any(negative.lengths) or isinstance(self.method, Unguided):
            return None
        if self.pipe is not None and not self._running:
            raise NotGuidedError(
                "the guided denoiser was called, but not by the pipeline that is guided, so it is not known which "
                "batch rows to guide. Guide the pipeline that makes the call, or the denoiser: guide(pipe.transformer)"
            )
        return negative

    def run(self, original: Any, pipe: Any, *args: Any, **kwargs: Any) -> Any:
        """Stand in for the pipeline's `__call__`."""
        arguments = _named(original, args, kwargs)
        steps, self._calls_before, self._running = self.report.steps, self.report.calls, True
        try:
            if self.takes_argument:
                self._take_argument(pipe, arguments)
            self._count_prompts(arguments)
            output = original(pipe, **arguments)
            if self.active() is not None and self.report.steps == steps:
                raise NotGuidedError("the pipeline ran without calling the denoiser that is guided")
            return output
        finally:
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
            self.use(given if isinstance(given, Negative) else encode(pipe, given))

    def _count_prompts(self, arguments: Mapping[str, Any]) -> None:
        """Note how many prompts the pipeline is called with. Raises PromptError when the negatives do not match."""
        prompt, embeddings = arguments.get("prompt"), arguments.get("prompt_embeds")
        texts = embeddings if prompt is None else prompt
        self._prompts = 1 if texts is None or isinstance(texts, str) else len(texts)
        if self._negative is not None and len(self._negative) not in (1, self._prompts):
            raise PromptError(f"{len(self._negative)} negatives for {self._prompts} prompts: give one, or one for each")

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


class _GuidedDenoiser:
    """One denoiser of a session: its calls get the negatives, its attention layers the method."""

    def __init__(self, module: nn.Module, session: _Session) -> None:
        self.module, self.session = module, session
        self.inner: nn.Module = getattr(module, "_orig_mod", module)
        self.layers = session.family.attention_layers(self.inner)
        attend = {role: partial(self.attend, role) for _, role in self.layers.values()}
        self.twins = Twins({name: (layer, attend[role]) for name, (layer, role) in self.layers.items()})
        self.injection: Injection | None = None

    def call(self, original: Any, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """Stand in for the denoiser's `__call__`."""
        negative, family = self.session.active(), self.session.family
        if negative is None:
            return original(module, *args, **kwargs)
        arguments = _named(type(self.inner).forward, args, kwargs)
        conditional = family.conditional_rows(self.session.pipe, arguments)
        rows = negative.rows(self.session.owners(conditional, len(negative)), like=arguments[family.text])
        if torch.is_grad_enabled() and getattr(self.inner, "gradient_checkpointing", False):
            raise UnsupportedAttentionError(
                "gradient checkpointing would recompute the attention unguided: call disable_gradient_checkpointing()"
            )
        self.injection = family.inject(arguments, rows, getattr(self.session.method, "layout", "paper"))
        try:
            with self.twins.in_place():
                output = original(module, **self.injection.arguments)
        finally:
            self.injection = None
        self.session.finished_step(compiled=self._is_compiled())
        return output

    def attend(
        self, role: Role, query: Tensor, key: Tensor, value: Tensor, options: Mapping[str, Any]
    ) -> Tensor | None:
        """Guide one attention call; None for the calls that see something else, such as an adapter's image tokens."""
        injection = self.injection
        assert injection is not None
        keys, text = key.shape[2], injection.text_tokens
        if role.kind == "cross" and keys != text:
            return None
        if role.kind == "joint" and not (query.shape[2] == keys > text):
            return None
        for name in ("is_causal", "enable_gqa", "dropout_p", "parallel_config"):
            if options.get(name):
                raise UnsupportedAttentionError(f"the model attends with {name}, which guidance cannot follow")
        if not torch.compiler.is_compiling():
            self.session.report.calls += 1
        layouts = [role.layout(spans, keys) for spans in injection.text]
        return guided_attention(
            self.session.method,
            query,
            key,
            value,
            layouts if len(layouts) > 1 else layouts[0],
            kind=role.kind,
            negative_valid=injection.valid,
            bias=options.get("attn_mask"),
            scale=options.get("scale"),
        )

    def _is_compiled(self) -> bool:
        """Whether attention calls happen in compiled code, where they cannot be counted."""
        parts = self.inner.modules()
        return self.inner is not self.module or any(getattr(part, "_compiled_call_impl", None) for part in parts)


def _resolved(method: str | Guidance) -> Guidance:
    """Return the method meant. Raises UnknownNameError for what is neither a known name nor an instance."""
    if isinstance(method, str):
        return make_method(method)
    if isinstance(method, type) or not hasattr(method, "combine"):
        raise UnknownNameError(f"method= takes a name or an instance such as vsf.ValueSignFlip(), got {method!r}")
    return method


def _named(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Give the positional arguments of a method (without self) their names. Raises TypeError as the call would."""
    bound = inspect.signature(function).bind_partial(None, *args).arguments
    positional = dict(list(bound.items())[1:])
    if twice := positional.keys() & kwargs.keys():
        raise TypeError(f"got multiple values for {', '.join(sorted(twice))}")
    return {**positional, **kwargs}
