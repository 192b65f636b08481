"""The tokens of HiDream: a picture that may be padded, T5, and every layer of Llama."""

from collections.abc import Iterable
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from vsf.attention.layout import Span
from vsf.controls.grid import Grid
from vsf.families.base.family import Encoded, Family, require_encoders
from vsf.families.base.host import CallArguments, Denoiser, Pipeline
from vsf.patching.swaps import calls_swapped
from vsf.text.embeddings import TokenizeUnpadded


class HiDreamTokens(Family):
    """A denoiser that gets T5's rows, (batch, tokens, channels), and Llama's, (layers, batch, tokens, channels)."""

    text = "encoder_hidden_states_t5"
    layers: ClassVar[str] = "encoder_hidden_states_llama3"
    conditions: ClassVar[tuple[str, ...]] = (text, layers, "pooled_embeds")

    def encode(self, pipe: Pipeline, text: str) -> Encoded:
        """Return each token's row of T5 and its rows of all layers of Llama, side by side.

        Both encoders read the longer of their two lengths, because a token has a row of each; the row of the shorter
        one is then its own padding, exactly what the pipeline itself puts there.
        """
        require_encoders(pipe, "text_encoder_3", "text_encoder_4", "tokenizer_3", "tokenizer_4")
        tokenizers = (pipe.tokenizer_3, pipe.tokenizer_4)
        length = max(len(tokenizer(text, truncation=True, max_length=128).input_ids) for tokenizer in tokenizers)
        t5 = TokenizeUnpadded(length)
        llama = TokenizeUnpadded(length)
        pooled = torch.zeros(1, 1)  # given, so that the CLIPs are not run for it
        with torch.no_grad(), calls_swapped(zip(tokenizers, (t5, llama), strict=True)):
            rows, _, layers, *_ = pipe.encode_prompt(
                text, do_classifier_free_guidance=False, pooled_prompt_embeds=pooled
            )
        special = (t5.special & llama.special)[0].to(rows.device)
        layers_of_tokens = layers[:, 0].transpose(0, 1).flatten(1)
        return Encoded(torch.cat([rows[0], layers_of_tokens], -1), special)

    def text_of(self, arguments: CallArguments) -> Float[Tensor, "batch 0 channels"]:
        """Return no token, because T5 and Llama may have different numbers of them, but the channels of both."""
        layers = arguments[self.layers][:, :, :0].permute(1, 2, 0, 3).flatten(2)
        return torch.cat([arguments[self.text][:, :0], layers], -1)

    def spans(self, denoiser: Denoiser, arguments: CallArguments) -> Iterable[tuple[Span, ...]]:
        """Return the picture, its padding where it is not square, T5's tokens, and twice those of Llama."""
        picture = self.grid(denoiser, arguments).tokens
        latents = arguments["hidden_states"]
        if latents.ndim == 3:  # patches already, (batch, tokens, channels)
            padded = latents.shape[1]
        elif latents.shape[2] == latents.shape[3]:
            padded = picture
        else:
            padded = denoiser.max_seq
        text = arguments[self.text].shape[1] + 2 * arguments[self.layers].shape[2]
        return [(Span("image", picture), Span("shared", padded - picture), Span("positive", text))]

    def grid(self, denoiser: Denoiser, arguments: CallArguments) -> Grid:
        """Return the latents cut into patches, or the numbers of patches that the call names."""
        sizes = arguments.get("img_sizes")
        if sizes is None:
            return super().grid(denoiser, arguments)
        height, width = sizes[0]
        return Grid(int(height), int(width))
