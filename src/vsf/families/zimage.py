"""Z-Image: one stream of tokens, and a caption whose padded length decides where the image stands."""

from collections.abc import Iterable

import torch
from jaxtyping import Shaped
from torch import Tensor

from vsf.attention.layout import Span
from vsf.controls.grid import Grid
from vsf.families.base.family import Encoded, Role, Tokens
from vsf.families.base.host import CallArguments, Denoiser, Pipeline
from vsf.families.base.patches import patch_grid
from vsf.families.encoders.chat import encode_chat
from vsf.families.layouts.per_block import PerBlockStream
from vsf.families.layouts.positions import on_first_axis

_MULTIPLE = 32
"""Image and caption are padded to multiples of so many tokens."""


class ZImage(PerBlockStream):
    """Z-Image and Z-Image-Turbo, but for Omni.

    A row is [image | positive | padding of the batch | negative]. Image and caption are padded to multiples of 32 with
    tokens that take part; the image stands where the padded caption ends, negatives where captions stand.
    """

    name = "z_image"
    denoisers = ("ZImageTransformer2DModel",)
    pipelines = (
        "ZImagePipeline",
        "ZImageImg2ImgPipeline",
        "ZImageInpaintPipeline",
        "ZImageControlNetPipeline",
        "ZImageControlNetInpaintPipeline",
    )
    roles = ((r"layers\.\d+\.attention", Role("joint")),)
    blocks = ("layers",)
    caption = "cap_embedder"
    text = "cap_feats"
    text_mask = ""
    conditions = ("cap_feats",)
    guidance = "batch, conditional first"

    def encode(self, pipe: Pipeline, text: str) -> Encoded:
        """Return the tokens of Qwen, with those of the chat's frame, which every caption has."""
        return encode_chat(pipe, text, lambda: pipe.encode_prompt(text, do_classifier_free_guidance=False)[0][0])

    def text_of(self, arguments: CallArguments) -> Tokens:
        """Return the caption of the first row."""
        return arguments[self.text][0][None]

    def row_count(self, arguments: CallArguments) -> int:
        """Count the captions, which are a list."""
        return len(arguments[self.text])

    def conditional_rows(self, pipe: Pipeline | None, arguments: CallArguments) -> list[bool]:
        """Take all rows to be conditional after the time `cfg_truncation`, when conditional rows come alone."""
        last = getattr(pipe, "_cfg_truncation", None)
        is_truncated = last is not None and float(last) <= 1 and float(arguments["t"][0]) > float(last)
        return super().conditional_rows(None if is_truncated else pipe, arguments)

    def rope(self, denoiser: Denoiser, tokens: int, device: torch.device) -> Shaped[Tensor, "1 tokens angles"]:
        """Count the caption's tokens from 1 on the first axis."""
        return denoiser.rope_embedder(on_first_axis(tokens, device, begin=1))[None]

    def spans(self, denoiser: Denoiser, arguments: CallArguments) -> Iterable[tuple[Span, ...]]:
        """Return image and caption with their padding, then the padding of the row to the longest."""
        image = self.grid(denoiser, arguments).tokens
        captions = [len(caption) + -len(caption) % _MULTIPLE for caption in arguments[self.text]]
        longest = max(captions)
        rows = []
        for caption in captions:
            padded_image = (Span("image", image), Span("shared", -image % _MULTIPLE))
            rows.append((*padded_image, Span("positive", caption), Span("shared", longest - caption)))
        return rows

    def grid(self, denoiser: Denoiser, arguments: CallArguments) -> Grid:
        """Return the latents, a list of (channels, frames, height, width), cut into patches of the call's sizes."""
        side = arguments.get("patch_size", 2)
        return patch_grid(arguments["x"][0].shape[-3:], (arguments.get("f_patch_size", 1), side, side))
