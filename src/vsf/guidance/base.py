"""What a guidance method is."""

from collections.abc import Collection
from typing import ClassVar, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from vsf.guidance.partials import Partials
from vsf.spans import Kind


@runtime_checkable
class Guidance(Protocol):
    """A way to let the negative prompt act on the attention, as a rule on its image rows.

    A class may declare more: `guides`, the kinds of rows that it acts on where text attends too, if not ("image",); and
    `model_calls = 2` when it also wants the model's output under the negative prompt, with a method
    `mix(conditional, unconditional, strength)`; and `fusion(numbers)`, which names the fused kernel that computes what
    `combine` does.
    """

    name: ClassVar[str]

    def combine(self, partials: Partials) -> Float[Tensor, "batch heads rows channels"]:
        """Return the attention output of the partials' rows, in their dtype."""
        ...


def guided_rows(method: Guidance) -> Collection[Kind]:
    """Tell on which kinds of rows the method acts; the others see what the unguided model or N⁰ sees."""
    image: tuple[Kind, ...] = ("image",)
    return getattr(method, "guides", image)


def model_calls(method: Guidance) -> int:
    """Tell how often the method calls the model for each step: 1, or 2 with the negative in the positive's place."""
    return getattr(method, "model_calls", 1)
