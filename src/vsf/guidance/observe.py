"""What a method did to the image rows, read off from what was computed anyway."""

import torch
from jaxtyping import Float
from torch import Tensor

from vsf.attention import shares
from vsf.guidance.control import Observation
from vsf.guidance.partials import Partials


def observe(
    partials: Partials, out: Float[Tensor, "batch heads queries channels"], rows: tuple[int, ...]
) -> Observation | None:
    """Compare the image rows' output with the unguided one, and see how much they looked at each negative.

    No further attention from image to image is computed, and nothing waits for the device. None where attention comes
    without its log-sum-exp.
    """
    host, negatives = partials.host, partials.negative
    if not all(partial.source.is_fused for partial in (*host, *negatives)):
        return None
    mass = shares(*host, *negatives)[len(host) :].mean(2).transpose(0, 1)
    wide = torch.promote_types(out.dtype, torch.float32)
    after, before = out.detach().to(wide), partials.unguided.detach().to(wide)
    moved, length = (torch.linalg.vector_norm(x, dim=(1, 2, 3)) for x in (after - before, before))
    return Observation(rows, moved / length.clamp(min=torch.finfo(wide).tiny), mass.detach())
