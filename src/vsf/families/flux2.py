"""FLUX.2: text tokens first, in double and in fused single blocks, with positions of their own."""

from collections.abc import Mapping
from typing import Any

import torch

from vsf.encode import NegativeRows, Templated
from vsf.errors import UnsupportedPipelineError
from vsf.families.base import Encoded, Family, Injection, Role, require_encoders
from vsf.grid import Grid
from vsf.guidance import Guidance
from vsf.hooks import calls_swapped


class Flux2(Family):
    """FLUX.2 dev and klein.

    The token sequence is [positive | negative | image | reference images]. The i-th text token has position i, and so
    has that of each negative. Pipelines pad the text to 512 tokens, which take part in the attention. The text is a
    chat: some of its tokens are the template's.
    """

    name = "flux2"
    denoisers = ("Flux2Transformer2DModel",)
    roles = ((r"(single_)?transformer_blocks\.\d+\.attn", Role("joint", image="last")),)
    conditions = ("encoder_hidden_states", "txt_ids")

    def check(self, target: Any, method: Guidance) -> None:
        """Refuse the pipeline that keeps keys of the reference images from its first step on."""
        super().check(target, method)
        if type(target).__name__ == "Flux2KleinKVPipeline":
            raise UnsupportedPipelineError(
                "Flux2KleinKVPipeline attends to keys of the reference images that it keeps from its first step, which "
                "guidance cannot follow; use Flux2KleinPipeline, which gives the same pictures"
            )

    def encode(self, pipe: Any, text: str) -> Encoded:
        """The chat as the pipeline writes it; a processor in the tokenizer's place has the tokenizer inside."""
        require_encoders(pipe, "text_encoder", "tokenizer")
        words = Templated(text)
        with torch.no_grad(), calls_swapped([(getattr(pipe.tokenizer, "tokenizer", pipe.tokenizer), words)]):
            embeddings, _ = pipe.encode_prompt(text)
        return Encoded(embeddings[0], words.special.to(embeddings.device))

    def grid(self, denoiser: Any, arguments: Mapping[str, Any]) -> Grid:
        """The image tokens' positions: picture, row, column, and one that only text has."""
        ids = arguments["img_ids"]
        return Grid.of_positions((ids if ids.ndim == 2 else ids[0])[:, :3])

    def inject(self, denoiser: Any, arguments: Mapping[str, Any], negative: NegativeRows, layout: str) -> Injection:
        """Append the negatives, and positions that start anew for each."""
        ids = arguments["txt_ids"]
        own = ids.new_zeros(*ids.shape[:-2], negative.embeddings.shape[1], ids.shape[-1])
        own[..., 3] = torch.cat([torch.arange(span.length, device=ids.device) for span in negative.spans])
        return super().inject(denoiser, {**arguments, "txt_ids": torch.cat([ids, own], -2)}, negative, layout)
