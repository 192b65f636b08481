"""ERNIE-Image: one stream of tokens, the sequence as its first axis, and image positions that follow from the text."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor

from vsf.attention.layout import Span
from vsf.families.base.family import Encoded, NegativeStream, Role, Tokens
from vsf.families.base.host import CallArguments, Denoiser, Pipeline
from vsf.families.base.masks import extend_mask
from vsf.families.encoders.chat import encode_chat
from vsf.families.layouts.per_block import PerBlock
from vsf.families.layouts.positions import on_first_axis


class Ernie(PerBlock):
    """ERNIE-Image and ERNIE-Image-Turbo.

    A row is [image | positive | padding of the batch | negative]. The image's first axis stands at the length of the
    positive; negatives stand where the positive does, from 0 on. A language model that writes a prompt anew
    (`use_pe`) does so with the positive only.
    """

    name = "ernie"
    denoisers = ("ErnieImageTransformer2DModel",)
    pipelines = ("ErnieImagePipeline",)
    roles = ((r"layers\.\d+\.self_attention", Role("joint")),)
    blocks = ("layers",)
    text = "text_bth"
    text_mask = ""
    text_lengths = "text_lens"
    conditions = ("text_bth", "text_lens")
    guidance = "batch"

    def encode(self, pipe: Pipeline, text: str) -> Encoded:
        """Return the tokens of Mistral, its begin mark included."""
        return encode_chat(pipe, text, lambda: pipe.encode_prompt(text, pipe._execution_device)[0])

    def embed(
        self, denoiser: Denoiser, arguments: CallArguments, tokens: Tokens, real: Bool[Tensor, "batch tokens"]
    ) -> Tokens:
        """Project the tokens where the model projects its text."""
        return tokens if denoiser.text_proj is None else denoiser.text_proj(tokens)

    def rope(self, denoiser: Denoiser, tokens: int, device: torch.device) -> Shaped[Tensor, "1 tokens angles"]:
        """Count the text's tokens on the first axis."""
        return denoiser.pos_embed(on_first_axis(tokens, device, dtype=torch.float32)[None])[:, :, 0]

    def call_block(self, block: Callable[..., Any], stream: NegativeStream, *args: Any, **kwargs: Any) -> Any:
        """Lengthen the stream of tokens, its angles, its mask, and its modulation, which is the same for all tokens."""
        negative = stream.enter().transpose(0, 1)
        assert stream.rope is not None
        added = len(negative)
        tokens, angles, modulation, mask = args
        longer_modulation = [part[:1].expand(len(tokens) + added, -1, -1) for part in modulation]
        longer_angles = torch.cat([angles, stream.rope[:, :, None]], 1)
        tokens = torch.cat([tokens, negative])
        tokens = block(tokens, longer_angles, longer_modulation, extend_mask(mask, added), **kwargs)
        stream.tokens = tokens[-added:].transpose(0, 1)
        return tokens[:-added]

    def spans(self, denoiser: Denoiser, arguments: CallArguments) -> Iterable[tuple[Span, ...]]:
        """Return the text with its padding, which the mask hides."""
        return [(Span("positive", arguments[self.text].shape[1]),)]
