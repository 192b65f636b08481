"""Stable Diffusion 3 and 3.5: two text streams in joint attention, image tokens first."""

from typing import Any

import torch

from vsf.families.base.family import Encoded, Family, Injection, Role, require_encoders
from vsf.families.base.host import CallArguments, Denoiser, Pipeline
from vsf.families.encoders.paired_clips import PairedClips
from vsf.families.layouts.reference import inject_reference
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
    pipelines = (
        "StableDiffusion3Pipeline",
        "StableDiffusion3Img2ImgPipeline",
        "StableDiffusion3InpaintPipeline",
        "StableDiffusion3ControlNetPipeline",
        "StableDiffusion3ControlNetInpaintingPipeline",
    )
    tested_weights = "tiny random weights; the embedded models"
    roles = ((r"transformer_blocks\.\d+\.attn", Role("joint", image="first")),)
    conditions = ("encoder_hidden_states", "pooled_projections")
    guidance = "batch"
    has_reference_layout = True

    def encode(self, pipe: Pipeline, text: str) -> Encoded:
        """Encode as the pipeline does: rows of both CLIPs side by side, then the rows of T5 where there is one.

        Without T5 the pipeline fills up with rows of zeros; they stand for no words, and a negative has none of them.
        """
        require_encoders(pipe, "tokenizer", "tokenizer_2", "text_encoder", "text_encoder_2")
        clips = PairedClips([pipe.tokenizer, pipe.tokenizer_2])
        t5 = TokenizeUnpadded()
        swaps: list[tuple[object, Override]] = [*clips.swaps]
        options: dict[str, Any] = {}
        if pipe.text_encoder_3 is not None:
            swaps.append((pipe.tokenizer_3, t5))
        else:
            options["max_sequence_length"] = 0  # of rows of zeros in place of T5's
        with torch.no_grad(), calls_swapped(swaps):
            embeddings, *_ = pipe.encode_prompt(text, None, None, do_classifier_free_guidance=False, **options)
        special = torch.cat([clips.special, t5.special[0]])
        return Encoded(clips.without_padding(embeddings[0]), special.to(embeddings.device))

    def characters(self, pipe: Pipeline, text: str) -> Characters:
        """Return the characters of the CLIPs' tokens, then those of T5's at the full length of 512.

        Without T5 there is nothing but padding behind the CLIPs.
        """
        clip = characters_of(pipe.tokenizer, text, pipe.tokenizer_max_length)
        return clip if pipe.tokenizer_3 is None else [*clip, *characters_of(pipe.tokenizer_3, text, 512)]

    def conditional_rows(self, pipe: Pipeline | None, arguments: CallArguments) -> list[bool]:
        """Take all rows of the extra call of skip-layer guidance to be conditional."""
        is_extra = arguments.get("skip_layers") is not None
        return super().conditional_rows(None if is_extra else pipe, arguments)

    def inject(self, denoiser: Denoiser, arguments: CallArguments, negative: NegativeRows, layout: str) -> Injection:
        """Append the negatives once, or twice for the layout of the authors' code."""
        if layout == "reference":
            return inject_reference(arguments, self.text, negative)
        return super().inject(denoiser, arguments, negative, layout)
