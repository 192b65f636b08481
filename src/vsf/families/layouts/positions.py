"""Positions of text tokens that start anew for each negative, as they would if it were a prompt of its own."""

from collections.abc import Sequence

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from vsf.attention.layout import Span


def restarted(positions: Shaped[Tensor, "tokens ..."], spans: Sequence[Span]) -> Shaped[Tensor, "all_tokens ..."]:
    """Give every span the first positions, one for each of its tokens, span after span.

    positions: of one text, or their rotary embedding, for at least as many tokens as the longest span has.
    """
    return torch.cat([positions[: span.length] for span in spans])


def token_ranks(spans: Sequence[Span], device: torch.device) -> Int[Tensor, " tokens"]:
    """Number the tokens of every span from 0 on, span after span."""
    return torch.cat([torch.arange(span.length, device=device) for span in spans])


def on_first_axis(
    tokens: int, device: torch.device, *, begin: int = 0, dtype: torch.dtype = torch.int32
) -> Shaped[Tensor, "tokens 3"]:
    """Number the tokens of a text from `begin` on along the first of three axes; on the others they stand at 0."""
    ranks = torch.arange(begin, begin + tokens, dtype=dtype, device=device)
    zeros = torch.zeros_like(ranks)
    return torch.stack([ranks, zeros, zeros], 1)
