"""FLUX.3: text and image go through blocks of their own first, then through joint ones, text tokens first."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

from torch import Tensor

from vsf.controls.grid import Grid
from vsf.families.base.family import Encoded, Role
from vsf.families.base.host import CallArguments, Denoiser, Pipeline
from vsf.families.encoders.chat import encode_chat
from vsf.families.layouts.positioned import FluxLike


class Flux3(FluxLike):
    """FLUX.3, step-distilled or not, which has modular pipelines alone.

    The i-th text token has position i on an axis of its own, and so has that of each negative. Pipelines pad the text
    to a multiple of 80 tokens, which take part in the attention. The text is a chat; each of its tokens is eight layers
    of the language model, side by side. By default another language model writes the prompt anew, as a long caption; a
    negative is read as it is given.
    """

    name = "flux3"
    denoisers = ("Flux3Transformer2DModel",)
    pipelines = ("Flux3ModularPipeline", "Flux3DistilledModularPipeline")
    pipelines_since: ClassVar[Mapping[str, str]] = MappingProxyType(dict.fromkeys(pipelines, "0.42"))
    encodes_from_parts = True
    roles: ClassVar[tuple[tuple[str, Role], ...]] = (
        (r"single_transformer_blocks\.\d+\.attn", Role("joint", image="last")),
        (r"txt_mode_blocks\.\d+\.attn", Role("text")),
    )
    counting = (3,)

    def encode(self, pipe: Pipeline, text: str) -> Encoded:
        """Return the tokens of the chat as the pipeline's own step reads it, without padding."""
        from diffusers.modular_pipelines.flux3.encoders import Flux3TextEncoderStep

        def read() -> Tensor:
            rows: Tensor = Flux3TextEncoderStep._get_qwen3_vl_prompt_embeds(
                pipe.text_encoder, pipe.tokenizer, text, device=pipe._execution_device, pad_multiple=1
            )
            return rows[0]

        return encode_chat(pipe, text, read)

    def grid(self, denoiser: Denoiser, arguments: CallArguments) -> Grid:
        """Return the grid of the image tokens' positions, whose rows and columns lie half a unit apart."""
        return Grid.of_coordinates(arguments["img_ids"].T[:3])
