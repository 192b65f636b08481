"""Masks over text tokens."""

import torch.nn.functional as F
from jaxtyping import Shaped
from torch import Tensor


def extend_mask(
    mask: Shaped[Tensor, "... tokens"] | None, added: int, *, in_front: bool = False
) -> Shaped[Tensor, "... longer"] | None:
    """Add so many real tokens to a mask, behind its tokens or in front of them; no mask stays no mask."""
    if mask is None:
        return None
    return F.pad(mask, (added, 0) if in_front else (0, added), value=1)
