"""HunyuanVideo-1.5: joint attention, image tokens first, and a text that is put together from three encoders."""

from collections.abc import Iterable

import torch
from jaxtyping import Bool
from torch import Tensor

from vsf.attention.layout import Span
from vsf.families.base.family import Role, Tokens
from vsf.families.base.host import CallArguments, Denoiser
from vsf.families.hunyuan_image import HunyuanImage


class HunyuanVideo15(HunyuanImage):
    """HunyuanVideo-1.5, from texts or pictures, step-distilled or not.

    The token sequence is [image | real tokens: start picture, ByT5, Qwen | the others | negative]. The start picture is
    seen by the negatives too. Each token of the text has its encoder's mark added, the negatives that of Qwen.
    """

    name = "hunyuan_video15"
    denoisers = ("HunyuanVideo15Transformer3DModel",)
    pipelines = ("HunyuanVideo15Pipeline", "HunyuanVideo15ImageToVideoPipeline")
    roles = ((r"transformer_blocks\.\d+\.attn", Role("joint", image="first")),)
    clip_rate = 24
    blocks = ("transformer_blocks",)

    def embed(
        self, denoiser: Denoiser, arguments: CallArguments, tokens: Tokens, real: Bool[Tensor, "batch tokens"]
    ) -> Tokens:
        """Run the text's refiner, and add the mark of Qwen's tokens."""
        refined = super().embed(denoiser, arguments, tokens, real)
        return refined + denoiser.cond_type_embed(torch.zeros_like(real, dtype=torch.long))

    def spans(self, denoiser: Denoiser, arguments: CallArguments) -> Iterable[tuple[Span, ...]]:
        """Return all three with their padding, which the mask hides.

        Without a start picture the model gets zeros for one, and moves them behind the texts as padding.
        """
        (texts,) = super().spans(denoiser, arguments)
        picture = arguments["image_embeds"]
        visible = picture.shape[1] if bool((picture != 0).any()) else 0
        return [(Span("shared", visible), *texts, Span("positive", picture.shape[1] - visible))]
