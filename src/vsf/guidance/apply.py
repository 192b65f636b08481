"""Guides a single attention call."""

from collections.abc import Sequence

from jaxtyping import Bool, Float
from torch import Tensor

from vsf.attention.call import HostCall
from vsf.attention.control import Control
from vsf.attention.layout import TokenLayout
from vsf.guidance.base import Guidance
from vsf.guidance.plan import AttentionPlan


def guided_attention(
    method: Guidance,
    host: HostCall,
    layout: TokenLayout | Sequence[TokenLayout],
    *,
    negative_valid: Bool[Tensor, "batch negative_tokens"] | None = None,
    control: Control | None = None,
) -> Float[Tensor, "batch heads queries channels"]:
    """Replace one attention call of the host; an `AttentionPlan` replaces many that are alike.

    Image rows get the method's result. Positive and shared rows see everything but the negatives. Rows of a
    negative prompt see image, shared tokens and themselves (the stream N⁰ of Guo & Du, arXiv:2508.10931), unless the
    method guides them too. A batch row without a real negative token equals the unguided call to the last bit.

    Args:
        method: the guidance.
        host: the call.
        layout: the spans of the keys (joint: and of the queries), one for all or one per batch row.
        negative_valid: which negative tokens, all negatives side by side, are real; None = all. Where layouts differ, a
            row's flags come first and the rest is ignored. Rows of padded negative tokens are finite and mean nothing.
        control: weights of negative and positive tokens, strength of the method, which rows have no negative, and an
            observer.

    Raises:
        LayoutError: shapes and layout do not fit together.
    """
    plan = AttentionPlan(method, host, layout, negative_valid=negative_valid, control=control)
    return plan.attend(host, watch=None if control is None else control.watch)
