"""Stable Diffusion 3 and 3.5: two text streams in joint attention, image tokens first."""

from collections.abc import Mapping
from typing import Any

import torch

from vsf.families.base.family import Encoded, Family, Injection, Role, require_encoders
from vsf.families.encoders.paired_clips import PairedClips
from vsf.families.layouts.reference import inject_twice
from vsf.patching.swaps import Override, calls_swapped
from vsf.text.embeddings import NegativeRows, TokenizeUnpadded
from vsf.text.token_weights import Characters, characters_of


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

        Without T5 the pipeline fills up with rows of zeros; they are no words, and a negative has none of them.
        """
        require_encoders(pipe, "tokenizer", "tokenizer_2", "text_encoder", "text_encoder_2")
        clips = PairedClips([pipe.tokenizer, pipe.tokenizer_2])
        t5, options = TokenizeUnpadded(), {"max_sequence_length": 0}
        swaps: list[tuple[Any, Override]] = [*clips.swaps]
        if pipe.text_encoder_3 is not None:
            swaps.append((pipe.tokenizer_3, t5))
            options = {}
        with torch.no_grad(), calls_swapped(swaps):
            embeddings, *_ = pipe.encode_prompt(text, None, None, do_classifier_free_guidance=False, **options)
        special = torch.cat([clips.special, t5.special[0]])
        return Encoded(clips.without_padding(embeddings[0]), special.to(embeddings.device))

    def characters(self, pipe: Any, text: str) -> Characters:
        """The CLIPs' tokens, then those of T5 as many as there may be; without T5 there is filling alone."""
        clip = characters_of(pipe.tokenizer, text, pipe.tokenizer_max_length)
        return clip if pipe.tokenizer_3 is None else [*clip, *characters_of(pipe.tokenizer_3, text, 512)]

    def conditional_rows(self, pipe: Any, arguments: Mapping[str, Any]) -> list[bool]:
        """The extra call of skip-layer guidance has conditional rows alone."""
        return super().conditional_rows(pipe if arguments.get("skip_layers") is None else None, arguments)

    def inject(self, denoiser: Any, arguments: Mapping[str, Any], negative: NegativeRows, layout: str) -> Injection:
        """Append the negatives once, or twice for the layout of the authors' code."""
        if layout == "reference":
            return inject_twice(arguments, self.text, negative)
        return super().inject(denoiser, arguments, negative, layout)
