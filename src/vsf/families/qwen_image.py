"""Qwen-Image: two text streams in joint attention, text tokens first, with rotary positions behind the picture's."""

from typing import Any

from torch import Tensor

from vsf.controls.grid import Grid
from vsf.families.base.family import Encoded, Family, Overrides, Role, Running
from vsf.families.base.host import CallArguments, Denoiser, Original, Pipeline
from vsf.families.encoders.chat import encode_chat
from vsf.families.layouts.positions import restarted

_PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"


class QwenImage(Family):
    """Qwen-Image, -Edit and -Layered.

    The token sequence is [negative | positive | image | reference images]. Text positions start where those of the
    picture end, for each negative anew. Texts of one length come without a mask. The last tokens of a text are its
    template's.
    """

    name = "qwen_image"
    denoisers = ("QwenImageTransformer2DModel",)
    pipelines = (
        "QwenImagePipeline",
        "QwenImageImg2ImgPipeline",
        "QwenImageInpaintPipeline",
        "QwenImageControlNetPipeline",
        "QwenImageControlNetInpaintPipeline",
        "QwenImageEditPipeline",
        "QwenImageEditPlusPipeline",
        "QwenImageEditInpaintPipeline",
        "QwenImageLayeredPipeline",
    )
    negatives_first = True
    roles = ((r"transformer_blocks\.\d+\.attn", Role("joint", image="last")),)
    text_mask = "encoder_hidden_states_mask"
    conditions = ("encoder_hidden_states", "encoder_hidden_states_mask")

    def encode(self, pipe: Pipeline, text: str) -> Encoded:
        """Return the tokens of the text alone: the place that Edit's template keeps for a picture is left out."""
        return encode_chat(pipe, text, lambda: pipe.encode_prompt(text)[0][0], without=_PICTURE)

    def grid(self, denoiser: Denoiser, arguments: CallArguments) -> Grid:
        """Return the grid of the first shape, which is the picture's; the others are those of reference images.

        Layered has one shape for every layer, and one of the condition at the end.
        """
        shapes = arguments["img_shapes"][0]
        if not isinstance(shapes, list):
            shapes = [shapes]
        frames, height, width = shapes[0]
        if denoiser.config.use_layer3d_rope:
            frames = len(shapes) - 1
        return Grid(height, width, frames)

    def overrides(self, denoiser: Denoiser, running: Running) -> Overrides:
        """Start the positions of each negative where the positive's start."""

        def embed(original: Original, rope: object, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
            image, text = original(rope, *args, **kwargs)
            injection = running()
            if injection is None:
                return image, text
            return image, restarted(text, injection.text[0])

        return [(denoiser.pos_embed, {"__call__": embed})]
