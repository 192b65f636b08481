"""Test whether guidance is exact for a model on this install, in one step of a sampler."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import Any

import torch
from torch import Tensor

from vsf.attention.layout import Kind
from vsf.errors import KnobError
from vsf.guidance import ValueSignFlip
from vsf.hosting import GuidedCall

from .families import Family, Texts, family_of, padded_length, token_grid
from .guide import APPLY_MODEL, KEY, Guided, ModelCall, Plan
from .interfaces import Attention, Conditioning, ModelExecutor, ModelPatcher
from .layers import by_heads
from .negative import Encoded, encode

_SCALE = 1.7
_OFFSET = 0.3
_METHOD = ValueSignFlip(scale=_SCALE, offset=_OFFSET)
_OFF = ValueSignFlip(scale=_SCALE, offset=inf)
_SAFETY = 50.0
"""Rounding errors, in units of the precision that the model computes in, that may add up in a call."""


@dataclass(frozen=True)
class Result:
    """The result of a self-test; errors and effect are relative L2 distances.

    Attributes:
        model: Class name of the model.
        off: Distance of guidance that is switched off from the unguided model.
        tied: Distance of guidance from two ordinary rows in lockstep.
        effect: Distance of guidance from the unguided model.
        bound: Largest error allowed in the model's precision.
        layers: Attention calls that see the text.
        calls: All attention calls.
    """

    model: str
    off: float
    tied: float
    effect: float
    bound: float
    layers: int
    calls: int

    @property
    def passed(self) -> bool:
        """Whether guidance is exact."""
        return self.layers > 0 and self.off <= self.bound and self.tied <= self.bound < self.effect

    def __str__(self) -> str:
        verdict = "guidance is exact here" if self.passed else "GUIDANCE IS NOT EXACT HERE: please report this model"
        lines = [
            f"{self.model}: {verdict}",
            f"attention that sees the text: {self.layers} of {self.calls} calls",
            f"switched off, against the unguided model: {self.off:.1e}",
            f"value sign flip, against two ordinary rows in lockstep: {self.tied:.1e}",
            f"errors may be up to {self.bound:.0e} in this precision; the guidance changes {self.effect:.1e}",
        ]
        return "\n".join(lines)


def self_test(
    model: ModelPatcher,
    positive: Conditioning,
    negative: Conditioning,
    run: Callable[[ModelPatcher, Conditioning], object],
) -> Result:
    """Test a MODEL within one step of a sampler.

    Args:
        model: The MODEL; guidance on it is ignored.
        positive: The prompt.
        negative: Its first entry is the negative of the test.
        run: Runs one step of a sampler, `run(model, positive)`; its result is not used.

    Raises:
        KnobError: The sampler did not call the model.
        UnsupportedPipelineError: The model's class is unknown to guidance.
    """
    family_of(model.model.diffusion_model)
    probe = Probe(negative)
    clone = model.clone()
    clone.remove_wrappers_with_key(APPLY_MODEL, KEY)
    clone.add_wrapper_with_key(APPLY_MODEL, KEY, probe)
    run(clone, positive)
    if probe.result is None:
        raise KnobError("the sampler did not call the model, so nothing was tested")
    return probe.result


class Probe:
    """A wrapper of `apply_model` that tests guidance in the first model call with a text."""

    def __init__(self, negative: Conditioning) -> None:
        self.negative = negative
        self.result: Result | None = None

    def __call__(
        self,
        executor: ModelExecutor,
        x: Tensor,
        t: Tensor,
        c_concat: Tensor | None = None,
        c_crossattn: Tensor | None = None,
        control: object = None,
        transformer_options: Mapping[str, Any] = {},
        **conds: Any,
    ) -> Tensor:
        """Test the first call with a text, then make every call unchanged."""
        call = ModelCall(executor, x, t, c_concat, c_crossattn, control, transformer_options, conds)
        if self.result is None and c_crossattn is not None:
            self.result = self._test(call)
        return call.make()

    def _test(self, call: ModelCall) -> Result:
        """Call the model unguided, switched off, guided and in lockstep, on texts cut to the same length."""
        family = family_of(call.denoiser)
        negatives = encode(call.executor.class_obj, self.negative, call.x[:1])
        if not negatives:
            raise KnobError("the negative of a self-test needs at least one word")
        words = _words(call)
        tokens = min(len(words), len(negatives[0].tokens))
        call = _first_row(call, words[:tokens])
        negative = Encoded(negatives[0].tokens[:tokens].to(words), 0, None, 1.0)
        base = call.make()
        off = Guided(Plan(_OFF, ())).guided_call(call, family, [negative], [0], 1.0)
        guide = Guided(Plan(_METHOD, ()))
        guided = guide.guided_call(call, family, [negative], [0], 1.0)
        lockstep = Lockstep(family, call)
        host = call.executor.class_obj
        computes_in = host.manual_cast_dtype or host.get_dtype()  # ComfyUI 0.8 has no call that says it
        tied = lockstep.make(call, negative.tokens)
        return Result(
            model=type(call.denoiser).__name__,
            off=_distance(off, base),
            tied=_distance(guided, tied),
            effect=_distance(guided, base),
            bound=_SAFETY * torch.finfo(computes_in).eps,
            layers=guide.trace.report.calls,
            calls=lockstep.seen,
        )


class Lockstep:
    """Two ordinary rows, (image, positive) and (image, negative), whose image tokens attend to the keys of both.

    No negative is appended to a positive here, so positions, padding and refiners are the model's own.
    """

    def __init__(self, family: Family, call: ModelCall) -> None:
        assert call.text is not None
        grid = token_grid(call.denoiser, call.x)
        inside = Texts(padded_length(call.text.shape[1], call.denoiser), (), ())
        self.role = family.role(call.denoiser)
        self.spans = family.spans(call.denoiser, inside, grid)
        self.text = GuidedCall(_METHOD, [self.spans])
        self.seen = 0

    def make(self, call: ModelCall, negative: Tensor) -> Tensor:
        """Make a call of one row with the negative, (tokens, channels), in a second row, and return the first row."""
        assert call.text is not None
        conds = {name: _twice(cond) if isinstance(cond, Tensor) else cond for name, cond in call.conds.items()}
        two_rows = replace(
            call,
            x=_twice(call.x),
            t=_twice(call.t),
            c_concat=None if call.c_concat is None else _twice(call.c_concat),
            text=torch.cat([call.text, negative[None].to(call.text)]),
            options={**call.options, "optimized_attention_override": self.attend},
            conds=conds,
        )
        return two_rows.make()[:1]

    def attend(self, func: Attention, q: Tensor, k: Tensor, v: Tensor, heads: int, *args: Any, **kwargs: Any) -> Tensor:
        """Replace the host's attention in the calls that see the text."""
        axis = 2 if kwargs.get("skip_reshape") else 1
        self.seen += 1
        if not self.text.sees_text(self.role, q.shape[axis], k.shape[axis]):
            return func(q, k, v, heads, *args, **kwargs)
        query, key, value = (rows.double() for rows in by_heads(q, k, v, heads, axis))
        groups = query.shape[1] // key.shape[1]
        key = key.repeat_interleave(groups, 1)
        value = value.repeat_interleave(groups, 1)
        out = self._cross(query, key, value) if self.role.kind == "cross" else self._joint(query, key, value)
        out = out.to(v.dtype)
        return out if kwargs.get("skip_output_reshape") else out.transpose(1, 2).flatten(2)

    def _cross(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        image = _flipped(query[:1], (key[:1], value[:1]), (key[1:], value[1:]))
        return torch.cat([image, image])

    def _joint(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        layout = self.role.layout(self.spans, key.shape[2])

        def keys_and_values(row: int, *kinds: Kind) -> tuple[Tensor, Tensor]:
            return layout.take(key[row : row + 1], 2, kinds), layout.take(value[row : row + 1], 2, kinds)

        # Row 0 holds the image and the positive, row 1 the image and the negative, where a prompt's text belongs.
        unguided = keys_and_values(0, "image", "shared", "positive")
        negative = keys_and_values(1, "positive")
        image = _flipped(layout.take(query[:1], 2, ["image"]), unguided, negative)
        shared = _attended(layout.take(query[:1], 2, ["shared"]), unguided)
        text_query = layout.take(query, 2, ["positive"])
        positive_text = _attended(text_query[:1], unguided)
        negative_text = _attended(text_query[1:], keys_and_values(1, "image", "shared", "positive"))
        # Both rows get the same image, so that they stay in lockstep.
        streams: dict[Kind, Tensor] = {
            "image": torch.cat([image, image]),
            "shared": torch.cat([shared, shared]),
            "positive": torch.cat([positive_text, negative_text]),
        }
        return torch.cat([streams[span.kind] for span in layout.spans], 2)


def _attended(query: Tensor, keys_and_values: tuple[Tensor, Tensor]) -> Tensor:
    """Softmax attention."""
    key, value = keys_and_values
    logits: Tensor = query @ key.mT * query.shape[-1] ** -0.5
    return logits.softmax(-1) @ value


def _flipped(query: Tensor, unguided: tuple[Tensor, Tensor], negative: tuple[Tensor, Tensor]) -> Tensor:
    """Softmax attention with the negative's logits lowered by the offset and its values multiplied by -scale."""
    key, value = unguided
    negative_key, negative_value = negative
    scale = query.shape[-1] ** -0.5
    logits = torch.cat([query @ key.mT * scale, query @ negative_key.mT * scale - _OFFSET], -1)
    return logits.softmax(-1) @ torch.cat([value, -_SCALE * negative_value], 2)


def _words(call: ModelCall) -> Tensor:
    """Return the real tokens of a call's first text, (tokens, channels)."""
    assert call.text is not None
    mask = call.conds.get("attention_mask")
    real = call.text[0].abs().amax(-1) > 0
    if isinstance(mask, Tensor) and mask.dim() == 2 and mask.shape[1] == call.text.shape[1]:
        real = mask[0] > 0
    return call.text[0, real.to(call.text.device)]


def _first_row(call: ModelCall, words: Tensor) -> ModelCall:
    """Return a call of the first row alone, with another text, (tokens, channels)."""
    assert call.text is not None
    conds = {name: cond[:1] if isinstance(cond, Tensor) else cond for name, cond in call.conds.items()}
    mask = conds.get("attention_mask")
    if isinstance(mask, Tensor) and mask.dim() == 2 and mask.shape[1] == call.text.shape[1]:
        conds["attention_mask"] = mask.new_ones(1, len(words))
    if conds.get("num_tokens") is not None:
        conds["num_tokens"] = len(words)
    c_concat = None if call.c_concat is None else call.c_concat[:1]
    return replace(call, x=call.x[:1], t=call.t[:1], c_concat=c_concat, text=words[None], conds=conds)


def _twice(tensor: Tensor) -> Tensor:
    """Return a batch of two equal rows."""
    return torch.cat([tensor, tensor])


def _distance(actual: Tensor, expected: Tensor) -> float:
    """Return the L2 distance relative to the norm of the expected tensor, in float64."""
    expected = expected.double()
    return float((actual.double() - expected).norm() / expected.norm().clamp(min=torch.finfo(torch.float64).tiny))
