"""The ablations of the paper: value sign flip with one of its ideas taken out, as methods of the benchmark alone.

Guo & Du, arXiv:2508.10931, use the tokens of the negative prompt twice: N⁰ as they are, and a copy N¹ with values × −α
and −β on its logits, which gives keys and values alone. The ablations differ in who sees what (the image tokens I and
the positive prompt P are seen by all but N⁰, which P is hidden from), or in what the tokens are:

====================  =========  =======  ===============================
rows of               image      P        N⁰
====================  =========  =======  ===============================
value sign flip       I P N¹     I P      I N⁰
without mask          I P N¹     I P N¹   I P N⁰ N¹
without duplicate     I P N¹     I P      I N¹
with padding          I P N¹     I P      I N⁰, N as the pipeline pads it
embedding flip        I P N      I P N    I P N, with −α·N, padded, for N
====================  =========  =======  ===============================

Without mask and duplicate at once it is "negpip"; without offset it is "vsf" at offset 0. An offset of infinity turns
all of them off but the embedding flip, whose attention is not touched; a scale of 0 turns none off, because tokens
whose values, or embeddings, are zero still draw attention.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from vsf import guidance
from vsf.attention.layout import Kind
from vsf.attention.partial import Partial, Strength, merge
from vsf.errors import KnobError
from vsf.families import find_family
from vsf.guidance import Guidance, Partials
from vsf.guidance.parameters import AUTO, Auto, check_names, knob
from vsf.patch import encode
from vsf.registry import Registry
from vsf.text.embeddings import Negative
from vsf.tiny.collapse_padding import FILLER_ROWS


class Ablation(Guidance):
    """A method that stands in for value sign flip, and has a say in how the negative prompts are encoded."""

    __slots__ = ()

    def encode(self, pipe: Any, negatives: Sequence[str]) -> Negative:
        """Encode one negative prompt for each prompt. Raises KnobError for a model that is not of the family sd3."""
        family = find_family(pipe)
        if family.name != "sd3":
            raise KnobError(f'the ablation "{self.name}" exists for sd3 only, not for {family.name}; use method "vsf"')
        return self._encoded(pipe, negatives)

    def _encoded(self, pipe: Any, negatives: Sequence[str]) -> Negative:
        return encode(pipe, negatives)


@dataclass(frozen=True, slots=True)
class _Flip(Ablation):
    """What still shows a copy of the negative whose values point the other way."""

    scale: Strength | Auto = knob(1.0, low=0.0, high=10.0, help="How hard the negative prompt pushes back.")
    offset: Strength = knob(0.0, low=-5.0, high=inf, help="Logits taken off the negative tokens before the softmax.")

    def flipped(self, partials: Partials) -> Partial:
        """N¹ as these rows see it."""
        scale, offset = partials.knob(self.scale, 3), partials.knob(self.offset, 3)
        return partials.negative.scaled(-scale).shifted(-offset)


@dataclass(frozen=True, slots=True)
class WithoutMask(_Flip):
    """Show N¹ to every row, and P to N⁰."""

    name: ClassVar[str] = "vsf-no-mask"
    guided_rows: ClassVar[Collection[Kind]] = ("image", "positive", "shared", "negative")

    def combine(self, partials: Partials) -> Float[Tensor, "batch heads rows channels"]:
        """Merge the flipped copy with all else; rows of the negative go on seeing their own tokens."""
        own = (partials.negative,) if partials.rows == "negative" else ()
        return merge(*partials.host, *own, self.flipped(partials))


@dataclass(frozen=True, slots=True)
class WithoutDuplicate(_Flip):
    """Let N¹ be the negative's own text stream too: its rows see themselves with turned values, and with the offset."""

    name: ClassVar[str] = "vsf-no-duplicate"
    guided_rows: ClassVar[Collection[Kind]] = ("image", "negative")

    def combine(self, partials: Partials) -> Float[Tensor, "batch heads rows channels"]:
        """Merge the one copy with what the rows see otherwise, which for those of the negative is the image."""
        others = (partials.image,) if partials.rows == "negative" else partials.host
        return merge(*others, self.flipped(partials))


@dataclass(frozen=True, slots=True)
class WithPadding(_Flip):
    """Let the filling of the negative take part: all rows that the pipeline makes of a prompt."""

    name: ClassVar[str] = "vsf-padded"

    def combine(self, partials: Partials) -> Float[Tensor, "batch heads rows channels"]:
        """Value sign flip."""
        return merge(*partials.host, self.flipped(partials))

    def _encoded(self, pipe: Any, negatives: Sequence[str]) -> Negative:
        return padded(pipe, negatives)


@dataclass(frozen=True, slots=True)
class EmbeddingFlip(Ablation):
    """Lengthen the positive prompt by the negative's embedding × −α, with its filling, and leave the attention alone.

    Raises KnobError for scale="auto".
    """

    name: ClassVar[str] = "embedding-flip"
    guided_rows: ClassVar[Collection[Kind]] = ("image", "positive", "shared", "negative")

    scale: float = knob(1.0, low=0.0, high=10.0, help="What the negative's embedding is multiplied with, but for sign.")

    def __post_init__(self) -> None:
        Guidance.__post_init__(self)
        if isinstance(self.scale, str):
            raise KnobError(f'"{self.name}" has one scale for the whole run; give a number instead of "{AUTO}"')

    def combine(self, partials: Partials) -> Float[Tensor, "batch heads rows channels"]:
        """Show every token to every row."""
        return merge(*partials.host, partials.negative)

    def _encoded(self, pipe: Any, negatives: Sequence[str]) -> Negative:
        return Negative(tuple(-self.scale * rows for rows in padded(pipe, negatives).embeddings))


ABLATIONS: Registry[type[Ablation]] = Registry(
    "ablation", {cls.name: cls for cls in (WithoutMask, WithoutDuplicate, WithPadding, EmbeddingFlip)}
)


def method(name: str, **knobs: Any) -> Guidance:
    """Make the method or ablation called `name`. Raises UnknownNameError and, for its knobs, KnobError."""
    if name not in ABLATIONS:
        return guidance.method(name, **knobs)
    check_names(ABLATIONS[name], f'ablation "{name}"', list(knobs))
    return ABLATIONS[name](**knobs)


def given(method: Guidance, pipe: Any, negatives: Sequence[str]) -> dict[str, Any]:
    """The arguments with which `vsf.guide` takes the negative prompts: texts, or what an ablation makes of them."""
    if isinstance(method, Ablation):
        return {"negative": method.encode(pipe, negatives)}
    return {"negative_prompt": negatives}


def padded(pipe: Any, negatives: Sequence[str]) -> Negative:
    """Encode as a Stable Diffusion 3 pipeline does its positive prompt: begin, words, end, filling; nothing for ""."""
    with torch.no_grad():
        rows, *_ = pipe.encode_prompt([*negatives], None, None, do_classifier_free_guidance=False)
    if pipe.text_encoder_3 is None:  # a folded pipeline has one filler row of its own that counts for all; these do not
        rows = F.pad(rows[:, : pipe.tokenizer_max_length], (0, 0, 0, FILLER_ROWS))
    return Negative(tuple(own if text.strip() else own[:0] for own, text in zip(rows, negatives, strict=True)))
