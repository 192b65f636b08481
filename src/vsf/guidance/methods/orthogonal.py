"""The orthogonal part of a change of the attention output, which `vsf` and `ong` share."""

import torch
from jaxtyping import Float
from torch import Tensor


def orthogonal_part(
    change: Float[Tensor, "batch heads queries channels"], along: Float[Tensor, "batch heads queries channels"]
) -> Float[Tensor, "batch heads queries channels"]:
    """Remove the component along `along`: x − (⟨x,a⟩/⟨a,a⟩)·a, per token over the channels of all heads.

    Where `along` is zero, the change is returned as it is. Meant for float32 or float64 inputs.
    """
    overlap = (change * along).sum((1, 3), keepdim=True)
    length = (along * along).sum((1, 3), keepdim=True).clamp(min=torch.finfo(along.dtype).tiny)
    return change - overlap / length * along
