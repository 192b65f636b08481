"""One attention call as the host hands it over."""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Bool, Float
from torch import Tensor

from vsf.attention.partial import HostAttention


@dataclass(frozen=True, slots=True, eq=False)
class HostCall:
    """The arguments of the host's attention call.

    Attributes:
        query: all rows that attend.
        key: of all tokens. Keys and values may have fewer heads, each for a group of the queries' heads.
        value: as the keys.
        kind: "joint", where text and image attend to one another, or "cross", where every query is an image row.
        bias: the host's own mask over the whole sequence, boolean (True = visible) or added to the logits; it must
            leave every row a key besides the negatives.
        scale: of the logits; None = 1/√channels.
        attention: the host's own function; None is torch's.
    """

    query: Float[Tensor, "batch heads queries channels"]
    key: Float[Tensor, "batch key_heads keys channels"]
    value: Float[Tensor, "batch key_heads keys channels"]
    kind: Literal["joint", "cross"] = "joint"
    bias: Float[Tensor, "..."] | Bool[Tensor, "..."] | None = None
    scale: float | None = None
    attention: HostAttention | None = None
