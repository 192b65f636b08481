"""HunyuanImage-2.1: joint attention, image tokens first, and a text that is put together from two encoders."""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from jaxtyping import Bool
from torch import Tensor

from vsf.attention.layout import Span
from vsf.controls.grid import Grid
from vsf.families.base.family import Encoded, Role
from vsf.families.encoders.chat import encode_chat
from vsf.families.layouts.per_block import BesideText, Tokens


class HunyuanImage(BesideText):
    """HunyuanImage-2.1, distilled or not.

    The token sequence is [image | real tokens of both encoders | their padding | negative]. ByT5 reads only what a
    prompt has in quotes, letter by letter; of a negative Qwen alone is used, which reads all of it. A guider names its
    calls, so the unconditional one is known.
    """

    name = "hunyuan_image"
    denoisers = ("HunyuanImageTransformer2DModel",)
    roles = ((r"(single_)?transformer_blocks\.\d+\.attn", Role("joint", image="first")),)
    conditions = (
        "encoder_hidden_states",
        "encoder_attention_mask",
        "encoder_hidden_states_2",
        "encoder_attention_mask_2",
    )
    blocks: ClassVar[tuple[str, ...]] = ("transformer_blocks", "single_transformer_blocks")

    def encode(self, pipe: Any, text: str) -> Encoded:
        """The tokens of Qwen behind its template."""
        return encode_chat(pipe, text, lambda: pipe.encode_prompt(text)[0][0])

    def embed(
        self, denoiser: Any, arguments: Mapping[str, Any], tokens: Tokens, real: Bool[Tensor, "batch tokens"]
    ) -> Tokens:
        """The text's refiner, at the time of the call."""
        return denoiser.context_embedder(tokens, arguments["timestep"], real)

    def spans(self, denoiser: Any, arguments: Mapping[str, Any]) -> Iterable[tuple[Span, ...]]:
        """Both texts with their padding, which the mask hides."""
        del denoiser
        both = (arguments.get(name) for name in (self.text, "encoder_hidden_states_2"))
        return [(Span("positive", sum(text.shape[1] for text in both if text is not None)),)]

    def grid(self, denoiser: Any, arguments: Mapping[str, Any]) -> Grid:
        """The latents cut into patches."""
        sizes = arguments["hidden_states"].shape[2:]
        *frames, rows, columns = (size // side for size, side in zip(sizes, denoiser.config.patch_size, strict=True))
        return Grid(rows, columns, *frames)
