"""What a guidance method is."""

from typing import ClassVar, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from vsf.guidance.partials import Partials


@runtime_checkable
class Guidance(Protocol):
    """A way to let the negative prompt act on the image rows of an attention call."""

    name: ClassVar[str]

    def combine(self, partials: Partials) -> Float[Tensor, "batch heads queries channels"]:
        """Return the image rows' attention output, in the dtype of the partials."""
        ...
