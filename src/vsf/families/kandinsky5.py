"""Kandinsky 5: a refiner over the text tokens, then image tokens that attend to them."""

from collections.abc import Mapping
from typing import Any

import torch

from vsf.controls.grid import Grid
from vsf.families.base.family import Encoded, Family, Injection, Role, require_encoders
from vsf.patching.swaps import calls_swapped
from vsf.text.embeddings import NegativeRows, TokenizeTemplate


class Kandinsky5(Family):
    """Kandinsky 5, video and image, Lite and Pro.

    The text is [positive | negative] in the refiner and for the image tokens. Its rotary positions start at 0, for each
    negative anew. CLIP's pooled embedding stays the positive's.
    """

    name = "kandinsky5"
    denoisers = ("Kandinsky5Transformer3DModel",)
    roles = (
        (r"text_transformer_blocks\.\d+\.self_attention", Role("text")),
        (r"visual_transformer_blocks\.\d+\.cross_attention", Role("cross")),
    )
    conditions = ("encoder_hidden_states", "pooled_projections", "text_rope_pos")
    channels_last = True

    def encode(self, pipe: Any, text: str) -> Encoded:
        """Rows of Qwen from the pipeline's template on; the end of the template comes along."""
        require_encoders(pipe, "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
        words, processor = TokenizeTemplate(text), pipe.tokenizer
        with torch.no_grad(), calls_swapped([(getattr(processor, "tokenizer", processor), words)]):
            embeddings, *_ = pipe.encode_prompt(text)
        begin = pipe.prompt_template_encode_start_idx
        special = words.special[begin : begin + embeddings.shape[1]]
        return Encoded(embeddings[0], special.to(embeddings.device), words.characters)

    def grid(self, denoiser: Any, arguments: Mapping[str, Any]) -> Grid:
        """The latents (batch, frames, height, width, channels) cut into patches."""
        sides = zip(arguments["hidden_states"].shape[1:4], denoiser.config.patch_size, strict=True)
        frames, height, width = (side // patch for side, patch in sides)
        return Grid(height, width, frames)

    def inject(self, denoiser: Any, arguments: Mapping[str, Any], negative: NegativeRows, layout: str) -> Injection:
        """Append the negatives and their positions."""
        positions = arguments["text_rope_pos"]
        own = [torch.arange(span.length).to(positions) for span in negative.spans]
        changed = {**arguments, "text_rope_pos": torch.cat([positions, *own])}
        return super().inject(denoiser, changed, negative, layout)
