"""What a method works with: some rows' attention over each span, computed on demand."""

from collections.abc import Callable, Collection
from typing import ClassVar, TypeVar, cast

import torch
from jaxtyping import Float
from torch import Tensor

from vsf.attention import Partial, RowsOf, Source, Strength, merge, per_row
from vsf.errors import KnobError
from vsf.guidance.call import AttentionCall
from vsf.guidance.control import pick_rows
from vsf.guidance.knobs import Auto
from vsf.spans import HOST, Part

T = TypeVar("T")


class Partials:
    """The image rows' attention, in parts that are computed when a method first touches them.

    `host` is what the unguided model attends to, in one part or in pieces, and `unguided` its output Z⁺; `negative[i]`
    are the negative prompts. A method that also needs the image under the negative prompt takes `under_positive` and
    `under_negative`, between which the attention from image to image is computed once.
    """

    rows: ClassVar[tuple[Part, ...]] = ("image",)

    def __init__(self, call: AttentionCall, model: Source | None = None) -> None:
        self.call = call
        self._made: dict[str, object] = {} if model is None else {"model": model}

    def of(self, rows: "type[Partials]") -> "Partials":
        """Return the attention of other rows; the unguided model's own call is made once for all."""
        return rows(self.call, self._model)

    @property
    def base(self) -> Partial:
        """These rows over all but the negatives in one part, by default cut out of the unguided model's own call."""
        return self._once("base", self._base)

    @property
    def image(self) -> Partial:
        """These rows over image and shared tokens; no keys at all in cross-attention without shared tokens."""
        return self._once("image", lambda: self._over(["image", "shared"]))

    @property
    def positive(self) -> Partial:
        """These rows over the positive prompt."""
        return self._once("positive", lambda: self._over(["positive"]))

    @property
    def negative(self) -> tuple[Partial, ...]:
        """These rows over each negative prompt, their logits shifted by the logarithm of its weight."""
        numbers, weight = range(len(self.call.layout.negative_lengths)), self.call.log_weight
        return self._once("negative", lambda: tuple(self._over([i]).shifted(weight(i)) for i in numbers))

    @property
    def host(self) -> tuple[Partial, ...]:
        """These rows over all but the negatives: in one part, or in pieces where that is cheaper."""
        shared = "image" in self._made and not self.call.may_bypass
        if "base" not in self._made and (shared or self.call.emphasis is not None):
            return self.image, self.positive
        return (self.base,)

    @property
    def unguided(self) -> Float[Tensor, "batch heads rows channels"]:
        """Z⁺: what these rows get without the method; of pieces only where it need not be so to the last bit."""
        return self._once("unguided", self._unguided)

    def under_positive(self) -> Float[Tensor, "batch heads rows channels"]:
        """Z⁺, for a method that computes Z⁻ too: from pieces that both share, unless rows may bypass the method."""
        if not self.call.may_bypass:
            _ = self.image
        return self.unguided

    def under_negative(self) -> Float[Tensor, "batch heads rows channels"]:
        """Z⁻: what these rows would get if the negatives stood in the place of the positive prompt."""
        return merge(self.image, *self.negative)

    def knob(self, value: Strength | Auto, axes: int = 4) -> Strength:
        """Return a knob for these rows of the batch: a number, or one value per row that multiplies so many axes.

        Raises KnobError for a value that has to be chosen for each step first.
        """
        if isinstance(value, str):
            raise KnobError(f'"{value}" is turned into a number at each step of a guided pipeline; here give a number')
        if isinstance(value, Tensor) and value.dim() and value.shape[0] > 1:
            value = pick_rows(value, self.call.index)
        return per_row(value, axes)

    @property
    def strength(self) -> float | Tensor:
        """How strongly the method acts on each of these rows."""
        return self.call.control.strength

    def _unguided(self) -> Tensor:
        whole, *rest = self.host
        return merge(whole, *rest) if rest else whole.out

    def _base(self) -> Partial:
        if self.call.emphasis is not None:
            return self._over(HOST)
        if self.call.kind == "cross":
            return Partial(self._model)
        return Partial(RowsOf(self._model, self._take, self.call.host_bias(self.rows)))

    @property
    def _model(self) -> Source:
        return self._once("model", self.call.host)

    def _take(self, tensor: Tensor) -> Tensor:
        return self.call.layout.without_negatives().take(tensor, 2, self.rows)

    def _over(self, keys: Collection[Part]) -> Partial:
        return Partial(self.call.source(self.rows, keys))

    def _once(self, name: str, make: Callable[[], T]) -> T:
        """Keep what was made. (functools.cached_property holds a lock, which torch.compile cannot enter.)"""
        if name not in self._made:
            self._made[name] = make()
        return cast(T, self._made[name])


class _WithoutPlace(Partials):
    """Rows that stand for no place in the picture: of all image rows' strengths theirs is the least."""

    @property
    def host(self) -> tuple[Partial, ...]:
        return (self.base,)

    @property
    def strength(self) -> float | Tensor:
        strength = self.call.control.strength
        return strength.amin(-1, keepdim=True) if isinstance(strength, Tensor) and strength.dim() else strength


class TextPartials(_WithoutPlace):
    """The same for the rows of the positive prompt and the shared tokens, in joint attention."""

    rows: ClassVar[tuple[Part, ...]] = ("positive", "shared")

    def _base(self) -> Partial:
        """Cut these rows out of the model's own call if that is made, else make a thin one."""
        return super()._base() if self._model.is_computed else self._over(HOST)


class NegativePartials(_WithoutPlace):
    """The same for the rows of the negative prompts, in joint attention; left alone, each sees image and itself."""

    rows: ClassVar[tuple[Part, ...]] = ("negative",)

    def _base(self) -> Partial:
        return self._over(HOST)

    def _unguided(self) -> Tensor:
        numbers = range(len(self.call.layout.negative_lengths))
        return torch.cat([self.call.source([i], ["image", "shared", i]).out for i in numbers], 2)
