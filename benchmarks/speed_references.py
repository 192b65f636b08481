"""Value sign flip, NAG and NASA in SD3 without partial attention, as other implementations compute them.

Written for this benchmark from the papers' layouts; nothing in vsf uses them.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


class _Projections:
    """The queries, keys and values of an SD3 block, image tokens first."""

    def project(self, attn: Any, image: Tensor, text: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return (query, key, value) of the image and of the text: (batch, heads, tokens, channels)."""
        of_image = ((attn.to_q, attn.norm_q), (attn.to_k, attn.norm_k), (attn.to_v, None))
        of_text = ((attn.add_q_proj, attn.norm_added_q), (attn.add_k_proj, attn.norm_added_k), (attn.add_v_proj, None))
        return [self._heads(attn, image, *how) for how in of_image], [self._heads(attn, text, *how) for how in of_text]

    def _heads(self, attn: Any, tokens: Tensor, linear: Any, norm: Any) -> Tensor:
        split = linear(tokens).unflatten(2, (attn.heads, -1)).transpose(1, 2)
        return split if norm is None else norm(split)

    def finish(self, attn: Any, out: Tensor, image: int) -> tuple[Tensor, Tensor]:
        """Project attention output (batch, heads, tokens, channels) back."""
        flat = out.transpose(1, 2).flatten(2)
        text = flat[:, image:]
        return attn.to_out[0](flat[:, :image]), text if attn.context_pre_only else attn.to_add_out(text)


class DenseMask(_Projections):
    """Value sign flip with its second copy of the negative as further keys, and a mask that says who sees whom."""

    def __init__(self, negative: int, scale: float, offset: float) -> None:
        self.negative, self.scale, self.offset = negative, scale, offset
        self._mask: Tensor | None = None

    def mask(self, image: int, text: int, like: Tensor) -> Tensor:
        """Made once: (rows, keys), 0 where seen, -inf where not, and the offset where image rows see the copy."""
        if self._mask is None:
            tokens, own = image + text, text - self.negative
            mask = like.new_full((tokens, tokens + self.negative), -torch.inf)
            mask[: image + own, : image + own] = 0  # image and positive see each other
            mask[:image, tokens:] = -self.offset  # the image sees the flipped copy
            mask[image + own :, :image] = 0  # the negative's own stream sees the image and itself
            mask[image + own :, image + own : tokens] = 0
            self._mask = mask
        return self._mask

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, **_: Any
    ) -> tuple[Tensor, Tensor]:
        """Stand in for diffusers' joint attention processor."""
        image = hidden_states.shape[1]
        of_image, of_text = self.project(attn, hidden_states, encoder_hidden_states)
        query, key, value = (torch.cat(pair, 2) for pair in zip(of_image, of_text, strict=True))
        key = torch.cat([key, of_text[1][:, :, -self.negative :]], 2)
        value = torch.cat([value, -self.scale * of_text[2][:, :, -self.negative :]], 2)
        mask = self.mask(image, encoder_hidden_states.shape[1], query)
        return self.finish(attn, F.scaled_dot_product_attention(query, key, value, mask), image)


class DoubledRows(_Projections):
    """NAG or NASA with two full attentions of one image, one for each text; the texts come as two batch rows.

    combine: Z⁺ and Z⁻ of the image rows, (batch, heads, tokens, channels) -> what they get.
    """

    def __init__(self, combine: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.combine = combine

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, **_: Any
    ) -> tuple[Tensor, Tensor]:
        """Stand in for diffusers' joint attention processor."""
        image = hidden_states.shape[1]
        of_image, of_text = self.project(attn, hidden_states, encoder_hidden_states)
        pairs = zip(of_image, of_text, strict=True)
        query, key, value = (torch.cat([torch.cat([shared, shared]), text], 2) for shared, text in pairs)
        out = F.scaled_dot_product_attention(query, key, value)
        positive, negative = out[:, :, :image].chunk(2)
        _, text = self.finish(attn, out, image)
        combined = self.combine(positive, negative).transpose(1, 2).flatten(2)
        return attn.to_out[0](combined), text


def nasa(positive: Tensor, negative: Tensor) -> Tensor:
    """Z⁺ − s·Z⁻ with s = .25."""
    return positive - 0.25 * negative


def nag(positive: Tensor, negative: Tensor) -> Tensor:
    """NAG with s = 9, τ = 5, α = .5: extrapolate, hold the norm back, blend."""
    far = 9.0 * positive - 8.0 * negative
    before, after = (z.abs().sum((1, 3), keepdim=True, dtype=torch.float32) for z in (positive, far))
    far = far * (torch.minimum(after / before, torch.full_like(before, 5.0)) * before / after).to(far.dtype)
    return 0.5 * far + 0.5 * positive


@contextmanager
def processor(model: Any, stand_in: Any) -> Iterator[None]:
    """Use one attention processor in every layer while the block runs."""
    before = model.attn_processors
    model.set_attn_processor(stand_in)
    try:
        yield
    finally:
        model.set_attn_processor(before)
