"""FramePack: HunyuanVideo that makes a video section by section, each with the earlier ones in view."""

from collections.abc import Iterable

from torch import Tensor

from vsf.attention.layout import Span
from vsf.families.base.host import CallArguments, Denoiser
from vsf.families.hunyuan_video import HunyuanVideo

_PATCHES = {"latents_clean": (1, 2, 2), "latents_history_2x": (2, 4, 4), "latents_history_4x": (4, 8, 8)}
"""Arguments with latents of earlier sections, and the sizes (frames, height, width) of a patch in each."""


class FramePack(HunyuanVideo):
    """FramePack, with HunyuanVideo's blocks.

    The token sequence is [earlier sections | image | start picture | positive | negative]. Earlier sections and start
    picture are seen by all and do not see the negatives. A single prompt comes without padding.
    """

    name = "framepack"
    denoisers = ("HunyuanVideoFramepackTransformer3DModel",)
    pipelines = ("HunyuanVideoFramepackPipeline",)
    in_sections = ("HunyuanVideoFramepackPipeline", "HunyuanVideoFramepackTransformer3DModel")
    conditions = (*HunyuanVideo.conditions, "image_embeds")

    def spans(self, denoiser: Denoiser, arguments: CallArguments) -> Iterable[tuple[Span, ...]]:
        """Return earlier sections in patches of three sizes, image, start picture and text."""
        earlier = sum(_count_tokens(arguments.get(name), patch) for name, patch in _PATCHES.items())
        # The model cuts the padding off, unless a batch needs it.
        mask = arguments["encoder_attention_mask"]
        text = int(mask.sum()) if len(mask) == 1 else mask.shape[1]
        image = self.grid(denoiser, arguments).tokens
        start_picture = arguments["image_embeds"].shape[1]
        return [
            (
                Span("shared", earlier),
                Span("image", image),
                Span("shared", start_picture),
                Span("positive", text),
            )
        ]


def _count_tokens(latents: Tensor | None, patch: tuple[int, int, int]) -> int:
    """Count the patches of latents (batch, channels, frames, height, width), which are padded to whole patches."""
    if latents is None:
        return 0
    tokens = 1
    for size, side in zip(latents.shape[-3:], patch, strict=True):
        tokens *= -(-size // side)
    return tokens
