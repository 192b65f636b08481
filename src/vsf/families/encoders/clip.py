"""Prompts of U-Nets, which one CLIP reads, or two of them side by side."""

from typing import Any

import torch

from vsf.families.base.family import Encoded, require_encoders
from vsf.families.base.host import Pipeline
from vsf.families.encoders.paired_clips import PairedClips
from vsf.families.encoders.plain import accepted_kwargs, char_offsets
from vsf.patching.swaps import calls_swapped
from vsf.text.token_weights import Characters


def encode_clip(pipe: Pipeline, text: str) -> Encoded:
    """Return the rows of CLIP, or of both side by side. Raises PromptError when an encoder is gone."""
    numbers = _numbers(pipe)
    for number in numbers:
        require_encoders(pipe, f"tokenizer{number}", f"text_encoder{number}")
    clips = PairedClips([getattr(pipe, f"tokenizer{number}") for number in numbers])
    with torch.no_grad(), calls_swapped(clips.swaps):
        embeddings, *_ = pipe.encode_prompt(text, **_options(pipe))
    return Encoded(clips.without_padding(embeddings[0]), clips.special.to(embeddings.device))


def char_offsets_clip(pipe: Pipeline, text: str) -> Characters:
    """Return the characters that each token stands for; where there are two CLIPs, both have the same tokens."""
    return char_offsets(pipe, text, 77, _numbers(pipe)[0], **_options(pipe))


def _numbers(pipe: Pipeline) -> list[str]:
    """Return the suffixes of the pipeline's CLIPs: "", "_2" or both. A refiner has the second alone."""
    numbers = [number for number in ("", "_2") if getattr(pipe, f"tokenizer{number}", None) is not None]
    return numbers or [""]  # none when they are freed; the first one is then missed with an error


def _options(pipe: Pipeline) -> dict[str, Any]:
    """Return the arguments that `encode_prompt` of these pipelines needs besides the prompt."""
    return accepted_kwargs(
        pipe, device=pipe._execution_device, num_images_per_prompt=1, do_classifier_free_guidance=False
    )
