"""Kandinsky 6: a refiner over the text for the picture and one for the sound, then both attend to it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vsf.controls.grid import Grid
from vsf.families.base.family import Encoded, Family, Injection, Overrides, Role, Running, require_encoders
from vsf.patching.swaps import calls_swapped
from vsf.text.embeddings import NegativeRows, TokenizeTemplate


class Kandinsky6(Family):
    """Kandinsky 6, video with sound or without.

    The text is [positive | negative] in both refiners, with positions from 0 on for each; its filling is masked.
    """

    name, denoisers, channels_last = "kandinsky6", ("Kandinsky6Transformer3DModel",), True
    roles = (
        (r"(video|audio)_text_transformer_blocks\.\d+\.attn", Role("text")),
        (r".*\.video_dec_block\.cross_attention", Role("cross")),
        (r".*\.audio_dec_block\.cross_attention", Role("cross", picture=False)),
    )
    text_mask = "encoder_attention_mask"
    conditions = ("encoder_hidden_states", "pooled_projections", "encoder_attention_mask")

    def encode(self, pipe: Any, text: str) -> Encoded:
        """Rows of Qwen behind its template, whose end comes along; the pooled embedding stays the positive's."""
        require_encoders(pipe, "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
        words, tokenizer = TokenizeTemplate(text), getattr(pipe.tokenizer, "tokenizer", pipe.tokenizer)
        with torch.no_grad(), calls_swapped([(tokenizer, words)]):
            embeddings, *_ = pipe.encode_prompt(text, do_classifier_free_guidance=False)
        return Encoded(embeddings[0], words.special[-embeddings.shape[1] :].to(embeddings.device), words.characters)

    def grid(self, denoiser: Any, arguments: Mapping[str, Any]) -> Grid:
        """The latents (batch, frames, height, width, channels) cut into patches; a first picture is the last frame."""
        patches = zip(arguments["hidden_states"].shape[1:4], denoiser.config.patch_size, strict=True)
        frames, height, width = (size // patch for size, patch in patches)
        return Grid(height, width, frames - (arguments.get("visual_token_type_ids") is not None))

    def inject(self, denoiser: Any, arguments: Mapping[str, Any], negative: NegativeRows, layout: str) -> Injection:
        """Append the negatives; the mask gets the axes of the attention, as it would there."""
        made = super().inject(denoiser, arguments, negative, layout)
        if (mask := made.arguments.get(self.text_mask)) is not None:
            made.arguments[self.text_mask] = mask[:, None, None]
        return made

    def overrides(self, denoiser: Any, running: Running) -> Overrides:
        """Let the positions of each negative start where the positive's do."""

        def positions(original: Any, rope: object, places: Tensor) -> Tensor:
            if (injection := running()) is not None:
                places = torch.cat([places[: span.length] for span in injection.text[0]])
            return original(rope, places)

        ropes = denoiser.video_text_rope_embeddings, denoiser.audio_text_rope_embeddings
        return [(rope, {"__call__": positions}) for rope in ropes]
