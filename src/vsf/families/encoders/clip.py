"""Prompts of U-Nets, which one CLIP reads, or two of them side by side."""

from typing import Any

import torch

from vsf.families.base.family import Encoded, require_encoders
from vsf.families.encoders.paired_clips import PairedClips
from vsf.families.encoders.plain import characters_read, taken
from vsf.patching.swaps import calls_swapped
from vsf.text.token_weights import Characters


def encode_clip(pipe: Any, text: str) -> Encoded:
    """Return rows of CLIP, or of both side by side. Raises PromptError when an encoder is gone."""
    numbers = _numbers(pipe)
    require_encoders(pipe, *(f"{part}{number}" for part in ("tokenizer", "text_encoder") for number in numbers))
    clips = PairedClips([getattr(pipe, f"tokenizer{number}") for number in numbers])
    with torch.no_grad(), calls_swapped(clips.swaps):
        embeddings, *_ = pipe.encode_prompt(text, **_options(pipe))
    return Encoded(clips.without_padding(embeddings[0]), clips.special.to(embeddings.device))


def characters_of_clip(pipe: Any, text: str) -> Characters:
    """Tell which characters each token stands for; where there are two CLIPs, both have the same tokens."""
    return characters_read(pipe, text, 77, _numbers(pipe)[0], **_options(pipe))


def _numbers(pipe: Any) -> list[str]:
    """Return the numbers of the pipeline's CLIPs; a refiner has the second alone."""
    return [number for number in ("", "_2") if getattr(pipe, f"tokenizer{number}", None) is not None] or [""]


def _options(pipe: Any) -> dict[str, Any]:
    """Return what these pipelines' `encode_prompt` wants to be told besides the prompt."""
    return taken(pipe, device=pipe._execution_device, num_images_per_prompt=1, do_classifier_free_guidance=False)
