"""The tokens of HiDream: a picture that may be filled up, T5, and every layer of Llama."""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from vsf.attention.layout import Span
from vsf.controls.grid import Grid
from vsf.families.base.family import Encoded, Family, require_encoders
from vsf.patching.swaps import calls_swapped
from vsf.text.embeddings import TokenizeUnpadded


class HiDreamTokens(Family):
    """A denoiser that gets T5's rows, (batch, tokens, channels), and Llama's, (layers, batch, tokens, channels)."""

    text = "encoder_hidden_states_t5"
    layers: ClassVar[str] = "encoder_hidden_states_llama3"
    conditions: ClassVar[tuple[str, ...]] = (text, layers, "pooled_embeds")

    def encode(self, pipe: Any, text: str) -> Encoded:
        """Rows of T5, and of all layers of Llama; that the CLIPs have done their part is pretended.

        Both read the longer of their two lengths, because a token has a row of each; the row of the shorter one is
        then its own padding, exactly what the pipeline itself puts there.
        """
        require_encoders(pipe, "text_encoder_3", "text_encoder_4", "tokenizer_3", "tokenizer_4")
        both = pipe.tokenizer_3, pipe.tokenizer_4
        length = max(len(each(text, truncation=True, max_length=128).input_ids) for each in both)
        t5, llama = TokenizeUnpadded(length), TokenizeUnpadded(length)
        with torch.no_grad(), calls_swapped(zip(both, (t5, llama), strict=True)):
            rows, _, layers, *_ = pipe.encode_prompt(
                text, do_classifier_free_guidance=False, pooled_prompt_embeds=torch.zeros(1, 1)
            )
        special = (t5.special & llama.special)[0].to(rows.device)
        return Encoded(torch.cat([rows[0], layers[:, 0].transpose(0, 1).flatten(1)], -1), special)

    def text_of(self, arguments: Mapping[str, Any]) -> Float[Tensor, "batch 0 channels"]:
        """Return no token, for T5 and Llama may have different numbers of them, but the channels of both."""
        layers = arguments[self.layers][:, :, :0].permute(1, 2, 0, 3).flatten(2)
        return torch.cat([arguments[self.text][:, :0], layers], -1)

    def spans(self, denoiser: Any, arguments: Mapping[str, Any]) -> Iterable[tuple[Span, ...]]:
        """The picture, its filling where it is not square, T5's tokens, and twice those of Llama."""
        picture, given = self.grid(denoiser, arguments).tokens, arguments["hidden_states"]
        full = given.shape[1] if given.ndim == 3 else picture if given.shape[2] == given.shape[3] else denoiser.max_seq
        text = arguments[self.text].shape[1] + 2 * arguments[self.layers].shape[2]
        return [(Span("image", picture), Span("shared", full - picture), Span("positive", text))]

    def grid(self, denoiser: Any, arguments: Mapping[str, Any]) -> Grid:
        """The latents cut into patches, or as many patches as are told to be there."""
        patch, sizes = denoiser.config.patch_size, arguments.get("img_sizes")
        sides = (side // patch for side in arguments["hidden_states"].shape[-2:]) if sizes is None else sizes[0]
        return Grid(*map(int, sides))
