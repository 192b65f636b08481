"""HunyuanImage-2.1: joint attention, image tokens first, and a text that is put together from two encoders."""

from collections.abc import Iterable
from typing import ClassVar

from jaxtyping import Bool
from torch import Tensor

from vsf.attention.layout import Span
from vsf.families.base.family import Encoded, Role, Tokens
from vsf.families.base.host import CallArguments, Denoiser, Pipeline
from vsf.families.encoders.chat import encode_chat
from vsf.families.layouts.per_block import PerBlockText


class HunyuanImage(PerBlockText):
    """HunyuanImage-2.1, distilled or not.

    The token sequence is [image | real tokens of both encoders | their padding | negative]. ByT5 reads only what a
    prompt has in quotes, letter by letter; of a negative Qwen alone is used, which reads all of it. A guider names its
    calls, so the unconditional one is known.
    """

    name = "hunyuan_image"
    denoisers = ("HunyuanImageTransformer2DModel",)
    pipelines = ("HunyuanImagePipeline", "HunyuanImageRefinerPipeline")
    roles = ((r"(single_)?transformer_blocks\.\d+\.attn", Role("joint", image="first")),)
    blocks: ClassVar[tuple[str, ...]] = ("transformer_blocks", "single_transformer_blocks")
    conditions = (
        "encoder_hidden_states",
        "encoder_attention_mask",
        "encoder_hidden_states_2",
        "encoder_attention_mask_2",
    )

    def encode(self, pipe: Pipeline, text: str) -> Encoded:
        """Return the tokens of Qwen behind its template."""
        return encode_chat(pipe, text, lambda: pipe.encode_prompt(text)[0][0])

    def embed(
        self, denoiser: Denoiser, arguments: CallArguments, tokens: Tokens, real: Bool[Tensor, "batch tokens"]
    ) -> Tokens:
        """Run the text's refiner, at the time of the call."""
        return denoiser.context_embedder(tokens, arguments["timestep"], real)

    def spans(self, denoiser: Denoiser, arguments: CallArguments) -> Iterable[tuple[Span, ...]]:
        """Return both texts with their padding, which the mask hides."""
        tokens = 0
        for name in (self.text, "encoder_hidden_states_2"):
            text = arguments.get(name)
            if text is not None:
                tokens += text.shape[1]
        return [(Span("positive", tokens),)]
