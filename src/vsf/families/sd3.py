"""Stable Diffusion 3 and 3.5: two text streams in joint attention, image tokens first."""

from collections.abc import Mapping
from typing import Any

import torch

from vsf.emphasis import Characters, characters_of
from vsf.encode import NegativeRows, Unpadded
from vsf.families.base import Encoded, Family, Injection, Role, require_encoders
from vsf.grid import Grid
from vsf.hooks import calls_swapped
from vsf.spans import Span


class StableDiffusion3(Family):
    """Stable Diffusion 3 and 3.5, in every pipeline of diffusers that uses their transformer.

    The token sequence is [image | positive | negative]; a block's second attention (`attn2`, 3.5) sees the image alone.
    The pooled text embedding stays the positive's.
    """

    name = "sd3"
    denoisers = ("SD3Transformer2DModel",)
    roles = ((r"transformer_blocks\.\d+\.attn", Role("joint", image="first")),)
    conditions = ("encoder_hidden_states", "pooled_projections")
    guidance = "batch"
    has_reference_layout = True

    def encode(self, pipe: Any, text: str) -> Encoded:
        """Encode as the pipeline does: rows of both CLIPs side by side, then the rows of T5 where there is one.

        Both CLIPs get the longer of their two lengths, because the pipeline pairs their rows; the row of the shorter
        one is then its own padding, exactly what the pipeline itself puts there. Without T5 the pipeline fills up with
        rows of zeros; they are no words, and a negative has none of them.
        """
        require_encoders(pipe, "tokenizer", "tokenizer_2", "text_encoder", "text_encoder_2")
        clips = [pipe.tokenizer, pipe.tokenizer_2]
        limit = pipe.tokenizer_max_length
        length = max(len(clip(text, truncation=True, max_length=limit).input_ids) for clip in clips)
        swaps = {id(clip): (clip, Unpadded(length)) for clip in clips}  # one tokenizer may serve both encoders
        first, second = (swaps[id(clip)][1] for clip in clips)
        t5, options = Unpadded(), {"max_sequence_length": 0}
        if pipe.text_encoder_3 is not None:
            swaps[id(pipe.tokenizer_3)], options = (pipe.tokenizer_3, t5), {}
        with torch.no_grad(), calls_swapped(swaps.values()):
            embeddings, *_ = pipe.encode_prompt(text, None, None, do_classifier_free_guidance=False, **options)
        special = torch.cat([first.special & second.special, t5.special], 1)
        return Encoded(embeddings[0], special[0].to(embeddings.device))

    def characters(self, pipe: Any, text: str) -> Characters:
        """The CLIPs' tokens, then those of T5 as many as there may be; without T5 there is filling alone."""
        clip = characters_of(pipe.tokenizer, text, pipe.tokenizer_max_length)
        return clip if pipe.tokenizer_3 is None else [*clip, *characters_of(pipe.tokenizer_3, text, 512)]

    def conditional_rows(self, pipe: Any, arguments: Mapping[str, Any]) -> list[bool]:
        """The extra call of skip-layer guidance has conditional rows alone."""
        return super().conditional_rows(pipe if arguments.get("skip_layers") is None else None, arguments)

    def grid(self, denoiser: Any, arguments: Mapping[str, Any]) -> Grid:
        """The latents cut into patches."""
        height, width = arguments["hidden_states"].shape[-2:]
        return Grid(height // denoiser.config.patch_size, width // denoiser.config.patch_size)

    def inject(self, denoiser: Any, arguments: Mapping[str, Any], negative: NegativeRows, layout: str) -> Injection:
        """Append the negatives once, or twice for the layout of the authors' code: [positive + negative | negative].

        There the copies stand before any filling, so that the copy counted as positive holds real tokens only; the
        filling of a row counts as negative and is marked as not valid.
        """
        if layout != "reference":
            return super().inject(denoiser, arguments, negative, layout)
        text, tokens = arguments[self.text], negative.embeddings.shape[1]
        twice = torch.zeros_like(negative.embeddings).repeat(1, 2, 1)
        for row, length in enumerate(negative.lengths):
            twice[row, : 2 * length] = negative.embeddings[row, :length].repeat(2, 1)
        spans = tuple(
            (Span("positive", text.shape[1] + length), Span("negative", 2 * tokens - length))
            for length in negative.lengths
        )
        joined = torch.cat([text, twice], 1)
        return Injection({**arguments, self.text: joined}, spans, negative.valid(2 * tokens - min(negative.lengths)))
