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

from .families import Family, Texts, family_of, filled_up, token_grid
from .guide import APPLY_MODEL, KEY, Guided, ModelCall, Plan
from .layers import by_heads
from .negative import Conditioning, Encoded, encode

_SCALE = 1.7
_OFFSET = 0.3
_METHOD = ValueSignFlip(scale=_SCALE, offset=_OFFSET)
_OFF = ValueSignFlip(scale=_SCALE, offset=inf)
_SAFETY = 50.0
"""How many roundings of the model's own numbers may add up in a call."""


@dataclass(frozen=True)
class Result:
    """What a self-test found; errors and effect are relative L2 distances.

    off: of guidance that does nothing from the model as it is. tied: of guidance from two untouched rows in lockstep.
    effect: of guidance from the model as it is. bound: what errors may be in the model's precision. layers: attention
    calls that see the text, of all `calls`.
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
        return "\n".join(
            [
                f"{self.model}: {verdict}",
                f"attention that sees the text: {self.layers} of {self.calls} calls",
                f"switched off, against the model as it is: {self.off:.1e}",
                f"value sign flip, against two untouched rows in lockstep: {self.tied:.1e}",
                f"errors may be up to {self.bound:.0e} in this precision; the guidance changes {self.effect:.1e}",
            ]
        )


def self_test(
    model: Any, positive: Conditioning, negative: Conditioning, run: Callable[[Any, Conditioning], Any]
) -> Result:
    """Test a MODEL with one step of a sampler, `run(model, positive)`, whose result is of no use.

    Raises:
        KnobError: the sampler did not call the model.
        UnsupportedPipelineError: guidance does not know the model's class.
    """
    family_of(model.model.diffusion_model)
    probe = Probe(negative)
    clone = model.clone()
    clone.remove_wrappers_with_key(APPLY_MODEL, KEY)
    clone.add_wrapper_with_key(APPLY_MODEL, KEY, probe)
    run(clone, positive)
    if probe.result is None:
        raise KnobError("the sampler did not call the model, so that nothing was tested")
    return probe.result


class Probe:
    """A wrapper that tests guidance in the first model call that it sees."""

    def __init__(self, negative: Conditioning) -> None:
        self.negative = negative
        self.result: Result | None = None

    def __call__(
        self,
        executor: Any,
        x: Tensor,
        t: Tensor,
        c_concat: Tensor | None = None,
        c_crossattn: Tensor | None = None,
        control: Any = None,
        transformer_options: Mapping[str, Any] = {},
        **conds: Any,
    ) -> Any:
        """Stand in for a call of `apply_model`."""
        call = ModelCall(executor, x, t, c_concat, c_crossattn, control, transformer_options, conds)
        if self.result is None and c_crossattn is not None:
            self.result = self._test(call)
        return call.make()

    def _test(self, call: ModelCall) -> Result:
        """Call the model with positive and negative cut to one length: as it is, switched off, guided, in lockstep."""
        family = family_of(call.denoiser)
        pieces = encode(call.executor.class_obj, self.negative, call.x[:1])
        if not pieces:
            raise KnobError("the negative of a self-test needs at least one word")
        words = _words(call)
        tokens = min(len(words), len(pieces[0].tokens))
        call = _first_row(call, words[:tokens])
        negative = Encoded(pieces[0].tokens[:tokens].to(words), 0, None, 1.0)
        base = call.make()
        off = Guided(Plan(_OFF, ())).guided_call(call, family, [negative], [0], 1.0)
        at_work = Guided(Plan(_METHOD, ()))
        guided = at_work.guided_call(call, family, [negative], [0], 1.0)
        lockstep = Lockstep(family, call)
        tied = lockstep.make(call, negative.tokens)
        return Result(
            model=type(call.denoiser).__name__,
            off=_distance(off, base),
            tied=_distance(guided, tied),
            effect=_distance(guided, base),
            bound=_SAFETY * torch.finfo(call.executor.class_obj.get_dtype_inference()).eps,
            layers=at_work.trace.report.calls,
            calls=lockstep.seen,
        )


class Lockstep:
    """Two ordinary rows, (image, positive) and (image, negative), whose image is made of the keys of both.

    No negative stands behind a positive here, so that positions, fillings and refiners are the model's own.
    """

    def __init__(self, family: Family, call: ModelCall) -> None:
        assert call.text is not None
        grid = token_grid(call.denoiser, call.x)
        inside = Texts(filled_up(call.text.shape[1], call.denoiser), (), ())
        self.role = family.role(call.denoiser)
        self.spans = family.spans(call.denoiser, inside, grid)
        self.text = GuidedCall(_METHOD, [self.spans])
        self.seen = 0

    def make(self, call: ModelCall, negative: Tensor) -> Tensor:
        """Make a call of one row with its negative, (tokens, channels), in a second one; returns the first."""
        assert call.text is not None
        conds = {name: _twice(cond) for name, cond in call.conds.items()}
        both = replace(
            call,
            x=_twice(call.x),
            t=_twice(call.t),
            c_concat=_twice(call.c_concat),
            text=torch.cat([call.text, negative[None].to(call.text)]),
            options={**call.options, "optimized_attention_override": self.attend},
            conds=conds,
        )
        out: Tensor = both.make()
        return out[:1]

    def attend(self, func: Any, q: Tensor, k: Tensor, v: Tensor, heads: int, *args: Any, **kwargs: Any) -> Tensor:
        """Stand in for the host's attention where it sees the text."""
        axis = 2 if kwargs.get("skip_reshape") else 1
        self.seen += 1
        if not self.text.sees_text(self.role, q.shape[axis], k.shape[axis]):
            return func(q, k, v, heads, *args, **kwargs)
        query, key, value = (rows.double() for rows in by_heads(q, k, v, heads, axis))
        groups = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        out = self._cross(query, key, value) if self.role.kind == "cross" else self._joint(query, key, value)
        out = out.to(v.dtype)
        return out if kwargs.get("skip_output_reshape") else out.transpose(1, 2).flatten(2)

    def _cross(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        image = _flipped(query[:1], (key[:1], value[:1]), (key[1:], value[1:]))
        return torch.cat([image, image])

    def _joint(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        layout = self.role.layout(self.spans, key.shape[2])

        def of_row(row: int, *parts: Kind) -> tuple[Tensor, Tensor]:
            return layout.take(key[row : row + 1], 2, parts), layout.take(value[row : row + 1], 2, parts)

        beside: tuple[Kind, ...] = ("image", "shared")
        unguided, negative = of_row(0, *beside, "positive"), of_row(1, "positive")
        streams = {
            "image": _flipped(layout.take(query[:1], 2, ["image"]), unguided, negative),
            "shared": _attended(layout.take(query[:1], 2, ["shared"]), unguided),
        }
        streams = {kind: torch.cat([rows, rows]) for kind, rows in streams.items()}
        words = layout.take(query, 2, ["positive"])
        own = [_attended(words[row : row + 1], of_row(row, *beside, "positive")) for row in (0, 1)]
        streams["positive"] = torch.cat(own)
        return torch.cat([streams[span.kind] for span in layout.spans], 2)


def _attended(query: Tensor, seen: tuple[Tensor, Tensor]) -> Tensor:
    """Softmax attention."""
    key, value = seen
    logits: Tensor = query @ key.mT * query.shape[-1] ** -0.5
    return logits.softmax(-1) @ value


def _flipped(query: Tensor, seen: tuple[Tensor, Tensor], negative: tuple[Tensor, Tensor]) -> Tensor:
    """Softmax attention in which a negative has an offset and its values point the other way."""
    (key, value), (other_key, other_value) = seen, negative
    scale = query.shape[-1] ** -0.5
    logits = torch.cat([query @ key.mT * scale, query @ other_key.mT * scale - _OFFSET], -1)
    return logits.softmax(-1) @ torch.cat([value, -_SCALE * other_value], 2)


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


def _twice(tensor: Any) -> Any:
    """Return a batch of two equal rows; what is no tensor as it is."""
    return torch.cat([tensor, tensor]) if isinstance(tensor, Tensor) else tensor


def _distance(came: Tensor, wanted: Tensor) -> float:
    """Return the relative L2 distance."""
    came, wanted = came.double(), wanted.double()
    return float((came - wanted).norm() / wanted.norm().clamp(min=torch.finfo(torch.float64).tiny))
