"""What a method did to the image rows, read off from what was computed anyway."""

import torch
from jaxtyping import Float
from torch import Tensor

from vsf.attention.control import Observation
from vsf.attention.partial import logits
from vsf.guidance.partials import Partials


def observe(partials: Partials, out: Float[Tensor, "batch heads queries channels"]) -> Observation | None:
    """Compare the image rows' output with the unguided one, and see how much they looked at each negative.

    No further attention from image to image is computed, and nothing waits for the device. None where attention comes
    without its log-sum-exp.
    """
    plan, host, negative = partials.call.plan, partials.host, partials.negative
    if not all(partial.is_fused for partial in (*host, negative)):
        return None
    own = logits(negative)
    total = torch.logsumexp(own, -1)
    for partial in host:
        total = torch.logaddexp(total, partial.log_sum_exp)
    shares = torch.exp(own - total.unsqueeze(-1)).mean(1)
    mass = torch.stack([part.sum(-1) for part in shares.split(plan.layout.negative_lengths, -1)], 1)
    wide = torch.promote_types(out.dtype, torch.float32)
    after, before = out.detach().to(wide), partials.unguided.detach().to(wide)
    moved, length = (torch.linalg.vector_norm(x, dim=(1, 2, 3)) for x in (after - before, before))
    return Observation(plan.index, moved / length.clamp(min=torch.finfo(wide).tiny), mass.detach())
