"""Z-Image: one stream of tokens, and a caption whose filled length decides where the image stands."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor

from vsf.attention.layout import Span
from vsf.controls.grid import Grid
from vsf.families.base.family import Encoded, Role
from vsf.families.encoders.chat import encode_chat
from vsf.families.layouts.per_block import BesideStream, Tokens


class ZImage(BesideStream):
    """Z-Image and Z-Image-Turbo, but for Omni.

    A row is [image | positive | filling of the batch | negative]. Image and caption are filled up to multiples of 32
    with tokens that take part; the image stands where the filled caption ends, negatives where captions stand.
    """

    name, denoisers, guidance = "z_image", ("ZImageTransformer2DModel",), "batch, conditional first"
    text, text_mask, caption, conditions = "cap_feats", "", "cap_embedder", ("cap_feats",)
    blocks, roles = ("layers",), ((r"layers\.\d+\.attention", Role("joint")),)

    def encode(self, pipe: Any, text: str) -> Encoded:
        """The tokens of Qwen, those of the chat's frame included, as of any caption."""
        return encode_chat(pipe, text, lambda: pipe.encode_prompt(text, do_classifier_free_guidance=False)[0][0])

    def text_of(self, arguments: Mapping[str, Any]) -> Tokens:
        """The caption of the first row."""
        return arguments[self.text][0][None]

    def row_count(self, arguments: Mapping[str, Any]) -> int:
        """Captions are a list."""
        return len(arguments[self.text])

    def conditional_rows(self, pipe: Any, arguments: Mapping[str, Any]) -> list[bool]:
        """After `cfg_truncation`, a time, conditional rows come alone."""
        last = getattr(pipe, "_cfg_truncation", None)
        alone = last is not None and float(last) <= 1 and float(arguments["t"][0]) > float(last)
        return super().conditional_rows(None if alone else pipe, arguments)

    def positions(self, denoiser: Any, tokens: int, like: Tensor) -> Shaped[Tensor, "1 tokens angles"]:
        """Captions count from 1 on the first axis."""
        first = torch.arange(1, tokens + 1, dtype=torch.int32, device=like.device)
        return denoiser.rope_embedder(torch.stack([first, first * 0, first * 0], 1))[None]

    def spans(self, denoiser: Any, arguments: Mapping[str, Any]) -> Iterable[tuple[Span, ...]]:
        """Both filled up, then what fills the row up to the longest."""
        image, captions = self.grid(denoiser, arguments).tokens, [n + -n % 32 for n in map(len, arguments[self.text])]
        both = (Span("image", image), Span("shared", -image % 32))
        return [(*both, Span("positive", own), Span("shared", max(captions) - own)) for own in captions]

    def grid(self, denoiser: Any, arguments: Mapping[str, Any]) -> Grid:
        """The latents cut into patches."""
        patch, (frames, height, width) = arguments.get("patch_size", 2), arguments["x"][0].shape[-3:]
        return Grid(height // patch, width // patch, frames // arguments.get("f_patch_size", 1))
