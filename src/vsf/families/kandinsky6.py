"""Kandinsky 6: a refiner over the text for the picture and one for the sound, then both attend to it."""

from dataclasses import replace
from typing import ClassVar

from torch import Tensor

from vsf.controls.grid import Grid
from vsf.families.base.family import Encoded, Family, Injection, Overrides, Role, Running, require_encoders
from vsf.families.base.host import CallArguments, Denoiser, Original, Pipeline
from vsf.families.encoders.chat import encode_chat
from vsf.families.layouts.positions import restarted
from vsf.text.embeddings import NegativeRows


class Kandinsky6(Family):
    """Kandinsky 6, video with sound or without.

    The text is [positive | negative] in both refiners, with positions from 0 on for each; its padding is masked.
    """

    name = "kandinsky6"
    denoisers = ("Kandinsky6Transformer3DModel",)
    pipelines = ("Kandinsky6TI2VAPipeline",)
    pipelines_since: ClassVar[dict[str, str]] = {"Kandinsky6TI2VAPipeline": "0.42"}
    roles = (
        (r"(video|audio)_text_transformer_blocks\.\d+\.attn", Role("text")),
        (r".*\.video_dec_block\.cross_attention", Role("cross")),
        (r".*\.audio_dec_block\.cross_attention", Role("cross", picture=False)),
    )
    text_mask = "encoder_attention_mask"
    conditions = ("encoder_hidden_states", "pooled_projections", "encoder_attention_mask")
    channels_last = True
    clip_rate = 24

    def encode(self, pipe: Pipeline, text: str) -> Encoded:
        """Return the rows of Qwen behind its template, whose end comes along; the pooled embedding is not used."""
        require_encoders(pipe, "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
        return encode_chat(pipe, text, lambda: pipe.encode_prompt(text, do_classifier_free_guidance=False)[0][0])

    def grid(self, denoiser: Denoiser, arguments: CallArguments) -> Grid:
        """Leave out a start picture, which stands behind the clip as its last frame."""
        grid = super().grid(denoiser, arguments)
        has_start_picture = arguments.get("visual_token_type_ids") is not None
        return replace(grid, frames=grid.frames - has_start_picture)

    def inject(self, denoiser: Denoiser, arguments: CallArguments, negative: NegativeRows, layout: str) -> Injection:
        """Append the negatives; the mask gets the axes of the attention, as the model would give it."""
        injection = super().inject(denoiser, arguments, negative, layout)
        mask = injection.arguments.get(self.text_mask)
        if mask is None:
            return injection
        return replace(injection, arguments={**injection.arguments, self.text_mask: mask[:, None, None]})

    def overrides(self, denoiser: Denoiser, running: Running) -> Overrides:
        """Start the positions of each negative where the positive's start."""

        def embed(original: Original, rope: object, positions: Tensor) -> Tensor:
            injection = running()
            if injection is not None:
                positions = restarted(positions, injection.text[0])
            return original(rope, positions)

        ropes = (denoiser.video_text_rope_embeddings, denoiser.audio_text_rope_embeddings)
        return [(rope, {"__call__": embed}) for rope in ropes]
