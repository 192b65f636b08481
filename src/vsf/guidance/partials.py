"""The attention of some query rows over each span, computed on demand, as methods combine it."""

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from vsf.attention.partial import Partial, Strength, merge, per_row
from vsf.attention.rows import Rows, RowsCall, RowsPlan
from vsf.errors import KnobError
from vsf.knobs import Auto


class Numbers:
    """The values of a method's knobs for some rows of the batch."""

    def __init__(self, plan: RowsPlan) -> None:
        self.plan = plan

    def knob(self, value: Strength | Auto, axes: int = 4) -> Strength:
        """Return the value of a knob for these rows of the batch.

        Args:
            value: of the knob: a number, a tensor without axes, or one value per row of the whole batch.
            axes: how many axes a tensor has that the value is to multiply.

        Raises:
            KnobError: the value is "auto", which only a guided pipeline turns into a number.
        """
        if isinstance(value, Tensor):
            of_rows = value[self.plan.batch] if value.dim() and value.shape[0] > 1 else value
            return per_row(of_rows, axes)
        if isinstance(value, str):
            raise KnobError(f'"{value}" is turned into a number at each step of a guided pipeline; here give a number')
        return value

    def fade(self, axes: int) -> Strength:
        """Return the factor by which an extrapolation fades with the negatives' weights: min(1, their sum).

        It is 1, or one value per row that multiplies a tensor with this many axes.
        """
        return per_row(self.plan.fade, axes)


class Partials(Numbers):
    """The attention of the image rows, in parts that are computed when a method first reads them.

    `host` holds the keys that the unguided model attends to, in one part or in pieces, and `unguided` is its output Z⁺.
    `negative` holds the keys of the negative prompts. A method that also needs Z⁻, the output under them, takes
    `under_positive` and `under_negative`, which share the attention from image to image.
    """

    rows: ClassVar[Rows] = "image"

    def __init__(self, call: RowsCall) -> None:
        self.call = call
        self.plan = call.plan
        self._base: Partial | None = None
        self._image: Partial | None = None
        self._positive: Partial | None = None
        self._negative: Partial | None = None
        self._unguided: Tensor | None = None

    def fade(self, axes: int) -> Strength:
        """Return the same, with `Control.weights` for every image row one value for each of these rows."""
        weights = self.plan.place_weights
        return per_row(self.plan.fade, axes) if weights is None else weights.fade(self.rows)

    @property
    def base(self) -> Partial:
        """These rows over all but the negatives in one part, mostly cut out of the unguided model's own call."""
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
        # Emphasised words weigh differently for image rows than in the model's own call, so that call is of no use.
        # Otherwise pieces are cheaper where the image's part is computed anyway, and the last bit does not matter.
        if self._base is None and (plan.emphasis is not None or (self._image is not None and not plan.may_bypass)):
            return self.image, self.positive
        return (self.base,)

    @property
    def unguided(self) -> Float[Tensor, "batch heads rows channels"]:
        """Z⁺, these rows' output without the method; merged from pieces only where the last bit does not matter."""
        if self._unguided is None:
            self._unguided = self._make_unguided()
        return self._unguided

    def under_positive(self) -> Float[Tensor, "batch heads rows channels"]:
        """Return Z⁺ for a method that also computes Z⁻, merged from pieces that both share where that is allowed."""
        if not self.plan.may_bypass:
            _ = self.image  # once it is computed, `host` is made of pieces
        return self.unguided

    def under_negative(self) -> Float[Tensor, "batch heads rows channels"]:
        """Return Z⁻: the output of these rows with the negatives in place of the positive prompt."""
        return merge(self.image, self.negative)

    def _make_unguided(self) -> Tensor:
        host = self.host
        return host[0].out if len(host) == 1 else merge(*host)


class _TokenPartials(Partials):
    """Rows of text tokens, which stand for no place in the picture: their host part is never split into pieces."""

    @property
    def host(self) -> tuple[Partial, ...]:
        return (self.base,)


class TextPartials(_TokenPartials):
    """The rows of the positive prompt and the shared tokens, in joint attention."""

    rows: ClassVar[Rows] = "text"

    @property
    def base(self) -> Partial:
        """These rows over all but the negatives, cut out of the unguided model's own call once that is computed."""
        if self._base is None:
            call = self.call
            self._base = call.cut("text") if call.model_is_computed else call.over("text", "host")
        return self._base


class NegativePartials(_TokenPartials):
    """The rows of the negative prompts, in joint attention; unguided, each prompt sees image and itself."""

    rows: ClassVar[Rows] = "negative"

    @property
    def base(self) -> Partial:
        """These rows over all but the negatives, in a call of their own: the unguided model has no such rows."""
        if self._base is None:
            self._base = self.call.over("negative", "host")
        return self._base

    def _make_unguided(self) -> Tensor:
        return self.call.over("negative", "all").attend()
