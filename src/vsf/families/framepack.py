"""FramePack: HunyuanVideo that makes a video section by section, each with the earlier ones in view."""

from collections.abc import Iterable, Mapping
from typing import Any

from vsf.attention.layout import Span
from vsf.families.hunyuan_video import HunyuanVideo

_PATCHES = {"latents_clean": (1, 2, 2), "latents_history_2x": (2, 4, 4), "latents_history_4x": (4, 8, 8)}
"""What is seen of earlier sections, and how many (frames, rows, columns) of it make a token."""


class FramePack(HunyuanVideo):
    """FramePack, with HunyuanVideo's blocks.

    The token sequence is [earlier sections | image | start picture | positive | negative]. Earlier sections and start
    picture are seen by all and do not see the negatives. A single prompt comes without padding.
    """

    name = "framepack"
    denoisers = ("HunyuanVideoFramepackTransformer3DModel",)
    conditions = (*HunyuanVideo.conditions, "image_embeds")

    def spans(self, denoiser: Any, arguments: Mapping[str, Any]) -> Iterable[tuple[Span, ...]]:
        """Earlier sections in patches of three sizes, each filled up to whole ones."""
        earlier = sum(_tokens(arguments.get(name), patch) for name, patch in _PATCHES.items())
        mask = arguments["encoder_attention_mask"]
        text = int(mask.sum()) if len(mask) == 1 else mask.shape[1]
        image = self.grid(denoiser, arguments).tokens
        start = arguments["image_embeds"].shape[1]
        return [(Span("shared", earlier), Span("image", image), Span("shared", start), Span("positive", text))]


def _tokens(latents: Any, patch: tuple[int, int, int]) -> int:
    """Count the tokens of some latents, (batch, channels, frames, height, width)."""
    if latents is None:
        return 0
    frames, rows, columns = (-(-size // side) for size, side in zip(latents.shape[-3:], patch, strict=True))
    return int(frames * rows * columns)
