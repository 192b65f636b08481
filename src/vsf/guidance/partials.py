"""What a method works with: some rows' attention over each span, computed on demand."""

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from vsf.attention.partial import Partial, Strength, merge, per_row
from vsf.attention.rows import Rows, RowsCall, RowsPlan
from vsf.errors import KnobError
from vsf.guidance.parameters import Auto


class Numbers:
    """A method's numbers for some rows of the batch."""

    def __init__(self, plan: RowsPlan) -> None:
        self.plan = plan

    def knob(self, value: Strength | Auto, axes: int = 4) -> Strength:
        """Return a knob for these rows of the batch: a number, or one value per row that multiplies so many axes.

        Raises KnobError for a value that has to be chosen for each step first.
        """
        if isinstance(value, Tensor):
            own = value[self.plan.batch] if value.dim() and value.shape[0] > 1 else value
            return per_row(own, axes)
        if isinstance(value, str):
            raise KnobError(f'"{value}" is turned into a number at each step of a guided pipeline; here give a number')
        return value

    def fade(self, axes: int) -> Strength:
        """Return what an extrapolation is multiplied with so that it fades with the negatives' weights.

        That is min(1, their sum), one value per row that multiplies so many axes where it is not 1 for all.
        """
        return per_row(self.plan.fade, axes)


class Partials(Numbers):
    """The image rows' attention, in parts that are computed when a method first touches them.

    `host` is what the unguided model attends to, in one part or in pieces, and `unguided` its output Z⁺; `negative` is
    the negative prompts. A method that also needs the image under the negative prompt takes `under_positive` and
    `under_negative`, between which the attention from image to image is computed once.
    """

    rows: ClassVar[Rows] = "image"

    def __init__(self, call: RowsCall) -> None:
        self.call, self.plan = call, call.plan
        self._base: Partial | None = None
        self._image: Partial | None = None
        self._positive: Partial | None = None
        self._negative: Partial | None = None
        self._unguided: Tensor | None = None

    @property
    def base(self) -> Partial:
        """These rows over all but the negatives in one part, by default cut out of the unguided model's own call."""
        if self._base is None:
            call = self.call
            if self.plan.emphasis is not None:
                self._base = call.over(self.rows, "host")
            else:
                self._base = call.model if self.plan.kind == "cross" else call.cut(self.rows)
        return self._base

    @property
    def image(self) -> Partial:
        """These rows over image and shared tokens; no keys at all in cross-attention without shared tokens."""
        if self._image is None:
            self._image = self.call.over(self.rows, "common")
        return self._image

    @property
    def positive(self) -> Partial:
        """These rows over the positive prompt."""
        if self._positive is None:
            self._positive = self.call.over(self.rows, "positive")
        return self._positive

    @property
    def negative(self) -> Partial:
        """These rows over the negative prompts, the logits of each shifted by the logarithm of its weight."""
        if self._negative is None:
            self._negative = self.call.over(self.rows, "negative")
        return self._negative

    @property
    def host(self) -> tuple[Partial, ...]:
        """These rows over all but the negatives: in one part, or in pieces where that is cheaper."""
        plan = self.plan
        if self._base is None and (plan.emphasis is not None or (self._image is not None and not plan.may_bypass)):
            return self.image, self.positive
        return (self.base,)

    @property
    def unguided(self) -> Float[Tensor, "batch heads rows channels"]:
        """Z⁺: what these rows get without the method; of pieces only where it need not be so to the last bit."""
        if self._unguided is None:
            self._unguided = self._make_unguided()
        return self._unguided

    def under_positive(self) -> Float[Tensor, "batch heads rows channels"]:
        """Z⁺, for a method that computes Z⁻ too: from pieces that both share, unless rows may bypass the method."""
        if not self.plan.may_bypass:
            _ = self.image
        return self.unguided

    def under_negative(self) -> Float[Tensor, "batch heads rows channels"]:
        """Z⁻: what these rows would get if the negatives stood in the place of the positive prompt."""
        return merge(self.image, self.negative)

    def _make_unguided(self) -> Tensor:
        host = self.host
        return host[0].out if len(host) == 1 else merge(*host)


class _WithoutPlace(Partials):
    """Rows that stand for no place in the picture."""

    @property
    def host(self) -> tuple[Partial, ...]:
        return (self.base,)


class TextPartials(_WithoutPlace):
    """The same for the rows of the positive prompt and the shared tokens, in joint attention."""

    rows: ClassVar[Rows] = "text"

    @property
    def base(self) -> Partial:
        """Cut out of the unguided model's own call where that is made, else a thin call of their own."""
        if self._base is None:
            call = self.call
            self._base = call.cut("text") if call.model_is_computed else call.over("text", "host")
        return self._base


class NegativePartials(_WithoutPlace):
    """The same for the rows of the negative prompts, in joint attention; left alone, each sees image and itself."""

    rows: ClassVar[Rows] = "negative"

    @property
    def base(self) -> Partial:
        """A call of their own, since the unguided model has none of these rows."""
        if self._base is None:
            self._base = self.call.over("negative", "host")
        return self._base

    def _make_unguided(self) -> Tensor:
        return self.call.over("negative", "all").attend()
