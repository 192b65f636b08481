"""Motif-Video: joint attention, image tokens first, and beside it image tokens that attend to the text alone."""

from typing import Any

from torch import nn

from vsf.errors import LayoutError
from vsf.families.base.family import Encoded, Family, Injection, Role, require_encoders
from vsf.families.base.host import CallArguments, Denoiser, Pipeline
from vsf.families.encoders.plain import encode_unpadded
from vsf.text.embeddings import NegativeRows


class MotifVideo(Family):
    """Motif-Video, from texts.

    The token sequence is [video | positive | negative], padding is masked; text has no positions. The last blocks see
    no text: their image tokens attend to those of the blocks before.
    """

    name = "motif_video"
    denoisers = ("MotifVideoTransformer3DModel",)
    pipelines = ("MotifVideoPipeline",)
    clip_rate = 24
    roles = (
        (r"(single_)?transformer_blocks\.\d+\.attn", Role("joint", image="first")),
        (r"(single_)?transformer_blocks\.\d+\.cross_attn", Role("cross")),
    )
    text_mask = "encoder_attention_mask"
    conditions = ("encoder_hidden_states", "encoder_attention_mask")

    def encode(self, pipe: Pipeline, text: str) -> Encoded:
        """Return the rows of the encoder, marks included."""
        require_encoders(pipe, "text_encoder", "tokenizer")
        return encode_unpadded(pipe.tokenizer, lambda: pipe.encode_prompt(text)[0][0])

    def attention_layers(self, denoiser: nn.Module) -> dict[str, tuple[nn.Module, Role]]:
        """Return the layers that see the text: those of the last `num_decoder_layers` blocks do not."""
        config: Any = denoiser.config
        blocks = config.num_single_layers
        first_without_text = blocks - config.num_decoder_layers
        without_text = tuple(f"single_transformer_blocks.{block}." for block in range(first_without_text, blocks))
        layers = super().attention_layers(denoiser)
        return {name: layer for name, layer in layers.items() if not name.startswith(without_text)}

    def inject(self, denoiser: Denoiser, arguments: CallArguments, negative: NegativeRows, layout: str) -> Injection:
        """Append the negatives to the text.

        Raises:
            LayoutError: tokens of a picture stand in front of the text.
        """
        if arguments.get("image_embeds") is not None:
            raise LayoutError("Motif-Video is guided without image_embeds, whose tokens only some of its layers see")
        return super().inject(denoiser, arguments, negative, layout)
