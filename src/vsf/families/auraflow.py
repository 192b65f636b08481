"""AuraFlow: joint attention with registers in front of the text."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from vsf.emphasis import Characters, characters_of
from vsf.encode import NegativeRows, Unpadded
from vsf.families.base import Encoded, Family, Injection, Role, require_encoders
from vsf.grid import Grid
from vsf.hooks import calls_swapped
from vsf.spans import Span


class AuraFlow(Family):
    """AuraFlow.

    The token sequence is [registers | positive | negative | image]. The registers, learned tokens, belong to the model:
    everything sees them, and they see no negative. Pipelines pad the text to 256 tokens with zeros, which take part in
    the attention. Text has no positions.
    """

    name = "auraflow"
    denoisers = ("AuraFlowTransformer2DModel",)
    roles = ((r"(joint|single)_transformer_blocks\.\d+\.attn", Role("joint", image="last")),)
    guidance = "batch"

    def encode(self, pipe: Any, text: str) -> Encoded:
        """Rows of the encoder, its end mark included."""
        require_encoders(pipe, "text_encoder", "tokenizer")
        tokens = Unpadded()
        with torch.no_grad(), calls_swapped([(pipe.tokenizer, tokens)]):
            embeddings, *_ = pipe.encode_prompt(text, do_classifier_free_guidance=False)
        return Encoded(embeddings[0], tokens.special[0].to(embeddings.device))

    def characters(self, pipe: Any, text: str) -> Characters:
        """The encoder's tokens, as many as there may be."""
        return characters_of(pipe.tokenizer, text, 256)

    def grid(self, denoiser: Any, arguments: Mapping[str, Any]) -> Grid:
        """The latents cut into patches."""
        height, width = arguments["hidden_states"].shape[-2:]
        return Grid(height // denoiser.config.patch_size, width // denoiser.config.patch_size)

    def inject(self, denoiser: Any, arguments: Mapping[str, Any], negative: NegativeRows, layout: str) -> Injection:
        """Append the negatives; the model puts its registers in front."""
        injection = super().inject(denoiser, arguments, negative, layout)
        registers = Span("shared", denoiser.register_tokens.shape[1])
        return replace(injection, text=tuple((registers, *spans) for spans in injection.text))
