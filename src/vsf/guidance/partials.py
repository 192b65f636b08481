"""What a method works with: the image rows' attention over each span, computed on demand."""

from collections.abc import Callable, Collection
from typing import TypeVar, cast

from jaxtyping import Float
from torch import Tensor

from vsf.attention import Partial, RowsOf, Source, merge
from vsf.guidance.call import AttentionCall
from vsf.spans import HOST, Part

T = TypeVar("T")


class Partials:
    """The image rows' attention, in parts that are computed when a method first touches them.

    `base` is the unguided model's own attention. `image` (with the shared tokens), `positive` and `negative[i]` are
    pieces, so that a method which also needs the image under the negative prompt attends from image to image once.
    """

    def __init__(self, call: AttentionCall) -> None:
        self._call = call
        self._made: dict[str, object] = {}

    @property
    def base(self) -> Partial:
        """Image rows over all but the negatives (Z⁺), cut out of a call just like the unguided model's."""
        return self._once("base", self._make_base)

    @property
    def image(self) -> Partial:
        """Image rows over image and shared tokens; no keys at all in cross-attention without shared tokens."""
        return self._once("image", lambda: self._over(["image", "shared"]))

    @property
    def positive(self) -> Partial:
        """Image rows over the positive prompt."""
        return self._once("positive", lambda: self._over(["positive"]))

    @property
    def negative(self) -> tuple[Partial, ...]:
        """Image rows over each negative prompt, their logits shifted by the logarithm of its weight."""
        numbers, weight = range(len(self._call.layout.negative_lengths)), self._call.log_weight
        return self._once("negative", lambda: tuple(self._over([i]).shifted(weight(i)) for i in numbers))

    @property
    def host(self) -> tuple[Partial, ...]:
        """Image rows over all but the negatives: `base` where it is at hand or needed anyway, else its pieces."""
        return (self.base,) if self._needs_base or "base" in self._made else (self.image, self.positive)

    @property
    def unguided(self) -> Float[Tensor, "batch heads queries channels"]:
        """Z⁺, from what is at hand."""
        return self.base.out if len(self.host) == 1 else self.under_positive()

    def under_positive(self) -> Float[Tensor, "batch heads queries channels"]:
        """Z⁺: what the image rows get under the positive prompt, from pieces that Z⁻ shares.

        Where rows may turn out to have no negative, or to be guided in part, `base` is needed anyway and taken.
        """
        if self._needs_base:
            return self.base.out
        return self._once("under positive", lambda: merge(self.image, self.positive))

    def under_negative(self) -> Float[Tensor, "batch heads queries channels"]:
        """Z⁻: what the image rows would get if the negatives stood in the place of the positive prompt."""
        return merge(self.image, *self.negative)

    def text(self) -> Float[Tensor, "batch heads rows channels"]:
        """Rows of the positive prompt and the shared tokens, which never see a negative; joint attention only."""
        if self._host.is_computed:
            return self._call.layout.without_negatives().take(self._host.out, 2, ["positive", "shared"])
        return self._call.source(["positive", "shared"], HOST).out

    @property
    def _needs_base(self) -> bool:
        return self._call.negative_valid is not None or self._call.control.blends

    @property
    def _host(self) -> Source:
        return self._once("host", self._call.host)

    def _make_base(self) -> Partial:
        if self._call.kind == "cross":
            return Partial(self._host)
        return Partial(RowsOf(self._host, self._image_rows, self._call.host_bias(["image"])))

    def _image_rows(self, tensor: Tensor) -> Tensor:
        return self._call.layout.without_negatives().take(tensor, 2, ["image"])

    def _over(self, keys: Collection[Part]) -> Partial:
        return Partial(self._call.source(["image"], keys))

    def _once(self, name: str, make: Callable[[], T]) -> T:
        """Keep what was made. (functools.cached_property holds a lock, which torch.compile cannot enter.)"""
        if name not in self._made:
            self._made[name] = make()
        return cast(T, self._made[name])
