"""Measures the effect of a method on the image rows, from results that were computed anyway."""

import torch
from jaxtyping import Float
from torch import Tensor

from vsf.attention.control import Observation
from vsf.guidance.partials import Partials


def observe(partials: Partials, out: Float[Tensor, "batch heads queries channels"]) -> Observation | None:
    """Compare the image rows' output with the unguided one, and measure their attention on each negative.

    No further attention from image to image is computed, and nothing waits for the device.

    Args:
        partials: the image rows' attention.
        out: the method's output.

    Returns:
        The observation, None where attention comes without its log-sum-exp.
    """
    plan = partials.call.plan
    host = partials.host
    negative = partials.negative
    if not all(partial.is_fused for partial in (*host, negative)):
        return None
    # The softmax over all keys, of which only the few columns of the negatives are written out.
    negative_logits = negative.logits()
    total = torch.logsumexp(negative_logits, -1)
    for partial in host:
        total = torch.logaddexp(total, partial.log_sum_exp)
    shares = torch.exp(negative_logits - total.unsqueeze(-1)).mean(1)
    mass = [of_negative.sum(-1) for of_negative in shares.split(plan.layout.negative_lengths, -1)]
    wide_dtype = torch.promote_types(out.dtype, torch.float32)
    after = out.detach().to(wide_dtype)
    before = partials.unguided.detach().to(wide_dtype)
    moved = torch.linalg.vector_norm(after - before, dim=(1, 2, 3))
    length = torch.linalg.vector_norm(before, dim=(1, 2, 3))
    change = moved / length.clamp(min=torch.finfo(wide_dtype).tiny)
    return Observation(plan.index, change, torch.stack(mass, 1).detach())
