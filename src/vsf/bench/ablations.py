"""The ablations of the paper: value sign flip without one of its ideas, as methods for the benchmark only.

Guo & Du, arXiv:2508.10931, use the tokens of the negative prompt twice: N⁰ as they are, and a copy N¹ with values × −α
and −β on its logits, which serves as keys and values only. The ablations differ in the tokens that each kind of row
sees (image tokens I and positive prompt P are seen by all rows, except that P is hidden from N⁰), or in the tokens
themselves:

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
all of them off except the embedding flip, which leaves the attention alone; a scale of 0 turns none off, because
tokens whose values or embeddings are zero still draw attention.
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
from vsf.knobs import AUTO, Auto, check_names, knob
from vsf.patch import encode
from vsf.registry import Registry
from vsf.text.embeddings import Negative
from vsf.tiny.collapse_padding import FILLER_ROWS


class Ablation(Guidance):
    """A variant of value sign flip that may also encode the negative prompts in its own way."""

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
    """Base of the ablations that keep the copy N¹, whose values have the opposite sign."""

    scale: Strength | Auto = knob(1.0, low=0.0, high=10.0, help="How hard the negative prompt pushes back.")
    offset: Strength = knob(0.0, low=-5.0, high=inf, help="Logits taken off the negative tokens before the softmax.")

    def flipped(self, partials: Partials) -> Partial:
        """Return the attention of these rows to N¹."""
        scale = partials.knob(self.scale, 3)
        offset = partials.knob(self.offset, 3)
        return partials.negative.scaled(-scale).shifted(-offset)


@dataclass(frozen=True, slots=True)
class WithoutMask(_Flip):
    """Show N¹ to every row, and P to N⁰."""

    name: ClassVar[str] = "vsf-no-mask"
    guided_rows: ClassVar[Collection[Kind]] = ("image", "positive", "shared", "negative")

    def combine(self, partials: Partials) -> Float[Tensor, "batch heads rows channels"]:
        """Merge N¹ with everything else; negative rows still see their own tokens N⁰, too."""
        unflipped = (partials.negative,) if partials.rows == "negative" else ()
        return merge(*partials.host, *unflipped, self.flipped(partials))


@dataclass(frozen=True, slots=True)
class WithoutDuplicate(_Flip):
    """Use N¹ as the negative's own text stream, too: its rows see themselves with flipped values and the offset."""

    name: ClassVar[str] = "vsf-no-duplicate"
    guided_rows: ClassVar[Collection[Kind]] = ("image", "negative")

    def combine(self, partials: Partials) -> Float[Tensor, "batch heads rows channels"]:
        """Merge N¹ with the other tokens that the rows see, which is the image alone for negative rows."""
        unflipped = (partials.image,) if partials.rows == "negative" else partials.host
        return merge(*unflipped, self.flipped(partials))


@dataclass(frozen=True, slots=True)
class WithPadding(_Flip):
    """Let the padding of the negative prompt take part: all rows that the pipeline makes of a prompt."""

    name: ClassVar[str] = "vsf-padded"

    def combine(self, partials: Partials) -> Float[Tensor, "batch heads rows channels"]:
        """Apply value sign flip."""
        return merge(*partials.host, self.flipped(partials))

    def _encoded(self, pipe: Any, negatives: Sequence[str]) -> Negative:
        return padded(pipe, negatives)


@dataclass(frozen=True, slots=True)
class EmbeddingFlip(Ablation):
    """Append the negative's padded embedding × −α to the positive prompt, and leave the attention alone.

    Raises:
        KnobError: scale="auto".
    """

    name: ClassVar[str] = "embedding-flip"
    guided_rows: ClassVar[Collection[Kind]] = ("image", "positive", "shared", "negative")

    scale: float = knob(1.0, low=0.0, high=10.0, help="Factor on the negative's embedding, whose sign it flips.")

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
    """Make the method or ablation called `name`. Raises UnknownNameError, and KnobError for its knobs."""
    if name not in ABLATIONS:
        return guidance.method(name, **knobs)
    check_names(ABLATIONS[name], f'ablation "{name}"', list(knobs))
    return ABLATIONS[name](**knobs)


def negative_arguments(method: Guidance, pipe: Any, negatives: Sequence[str]) -> dict[str, Any]:
    """Return the arguments that hand negative prompts to `vsf.guide`: texts, or an ablation's own encoding."""
    if isinstance(method, Ablation):
        return {"negative": method.encode(pipe, negatives)}
    return {"negative_prompt": negatives}


def padded(pipe: Any, negatives: Sequence[str]) -> Negative:
    """Encode negatives as a Stable Diffusion 3 pipeline encodes its prompt, padding included; nothing for ""."""
    with torch.no_grad():
        embeddings, *_ = pipe.encode_prompt([*negatives], None, None, do_classifier_free_guidance=False)
    if pipe.text_encoder_3 is None:
        # Collapsed padding is one filler row that counts 256 times in attention; negatives need the rows themselves.
        embeddings = F.pad(embeddings[:, : pipe.tokenizer_max_length], (0, 0, 0, FILLER_ROWS))
    rows_of_negative = []
    for text, rows in zip(negatives, embeddings, strict=True):
        rows_of_negative.append(rows if text.strip() else rows[:0])
    return Negative(tuple(rows_of_negative))
