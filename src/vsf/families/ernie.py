"""ERNIE-Image: one stream of tokens, the sequence as its first axis, and image positions that follow from the text."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Shaped
from torch import Tensor

from vsf.attention.layout import Span
from vsf.families.base.family import Encoded, Role
from vsf.families.encoders.chat import encode_chat
from vsf.families.layouts.per_block import Beside, Tokens, Travelling


class Ernie(Beside):
    """ERNIE-Image and ERNIE-Image-Turbo.

    A row is [image | positive | filling of the batch | negative]. The image's first axis stands at the length of the
    positive; negatives stand where the positive does, from 0 on. A language model that writes a prompt anew
    (`use_pe`) does so with the positive only.
    """

    name, denoisers, guidance = "ernie", ("ErnieImageTransformer2DModel",), "batch"
    text, text_mask, text_lengths, conditions = "text_bth", "", "text_lens", ("text_bth", "text_lens")
    blocks, roles = ("layers",), ((r"layers\.\d+\.self_attention", Role("joint")),)

    def encode(self, pipe: Any, text: str) -> Encoded:
        """The tokens of Mistral, its begin mark included."""
        return encode_chat(pipe, text, lambda: pipe.encode_prompt(text, pipe._execution_device)[0])

    def embed(
        self, denoiser: Any, arguments: Mapping[str, Any], tokens: Tokens, real: Bool[Tensor, "batch tokens"]
    ) -> Tokens:
        """Project where the model projects its text."""
        return tokens if denoiser.text_proj is None else denoiser.text_proj(tokens)

    def positions(self, denoiser: Any, tokens: int, like: Tensor) -> Shaped[Tensor, "1 tokens angles"]:
        """Texts count on the first axis."""
        first = torch.arange(tokens, dtype=torch.float32, device=like.device)
        return denoiser.pos_embed(torch.stack([first, 0 * first, 0 * first], 1)[None])[:, :, 0]

    def carry(self, block: Callable[..., Any], travelling: Travelling, *args: Any, **kwargs: Any) -> Any:
        """Lengthen the stream, its angles, its modulation, which is the same for all tokens, and its mask."""
        negative, (stream, angles, modulation, mask) = travelling.arrived().transpose(0, 1), args
        tokens, places = len(negative), travelling.positions
        assert places is not None
        longer = [each[:1].expand(len(stream) + tokens, -1, -1) for each in modulation]
        angles = torch.cat([angles, places[:, :, None]], 1)
        stream = block(torch.cat([stream, negative]), angles, longer, F.pad(mask, (0, tokens), value=True), **kwargs)
        travelling.tokens = stream[-tokens:].transpose(0, 1)
        return stream[:-tokens]

    def spans(self, denoiser: Any, arguments: Mapping[str, Any]) -> Iterable[tuple[Span, ...]]:
        """The text with its filling, which the mask hides."""
        return [(Span("positive", arguments[self.text].shape[1]),)]
