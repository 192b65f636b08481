"""Negatives out of ComfyUI's conditionings: prepared by the model as it prepares a prompt, and without padding."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vsf.errors import KnobError, PromptError
from vsf.text.embeddings import Negative, Share

WORDS = "vsf_words"
"""Key of a conditioning that "VSF Encode Negative" made: (1, tokens), which of its tokens are real.

It is not called `attention_mask`, which some models take for the mask of an image.
"""
MARKS = "vsf_marks"
"""Key for which of the tokens are begin or end marks, (1, tokens)."""
WEIGHT = "vsf_weight"
"""Key for the weight of a negative among others."""

Conditioning = Sequence[tuple[Tensor, Mapping[str, Any]]]
"""The host's CONDITIONING: entries of text tokens (1, tokens, channels) and what goes with them."""

_LIMITS = ("area", "mask", "start_percent", "end_percent", "clip_start_percent", "clip_end_percent")
"""Keys by which the host limits an entry to a part of the picture or of the run."""
_CLIP_LENGTH = 77
_T5_LENGTHS = (256, 512)


@dataclass(frozen=True)
class Encoded:
    """One negative in the form in which the model takes text.

    tokens: (tokens, channels), real ones only. start: how many tokens stood before the first one. marks: which of them
    are begin or end marks, None where that is not known. weight: how much it weighs among several.
    """

    tokens: Tensor
    start: int
    marks: Tensor | None
    weight: float


def check(conditioning: Conditioning) -> None:
    """Raise KnobError for a conditioning that is limited in a way that a negative cannot follow."""
    for _, extra in conditioning:
        limits = [key for key in _LIMITS if key in extra]
        if limits:
            raise KnobError(
                f"the negative is limited by {' and '.join(limits)}, which guidance does not follow; "
                "use start, end and mask of VSF Guidance instead"
            )


def encode(model: Any, conditioning: Conditioning, latents: Tensor) -> list[Encoded]:
    """Return every entry of a conditioning as a negative, those without a word left out.

    model: the host's BaseModel. latents: what the denoiser is called with, (batch, channels, ..., height, width).

    Raises:
        PromptError: an entry holds nothing but zeros.
    """
    encoded = [_encode(model, tokens, extra, latents) for tokens, extra in conditioning]
    return [negative for negative in encoded if len(negative.tokens)]


def joined(encoded: Sequence[Encoded], *, strip_marks: bool) -> Negative:
    """Return all negatives as those of one prompt.

    Raises:
        PromptError: begin and end marks are to be left out, and it is not known which tokens they are.
    """
    shares = tuple(Share(len(negative.tokens), negative.weight) for negative in encoded)
    tokens = torch.cat([negative.tokens for negative in encoded])
    if not strip_marks:
        return Negative((tokens,), shares=(shares,))
    marks = [negative.marks for negative in encoded if negative.marks is not None]
    if len(marks) < len(encoded):
        raise PromptError(
            'special_tokens="strip" has to know which tokens are begin and end marks: '
            "make the negative with VSF Encode Negative, where its text encoder tells"
        )
    return Negative((tokens,), (torch.cat(marks),), (shares,)).stripped()


def _encode(model: Any, tokens: Tensor, extra: Mapping[str, Any], latents: Tensor) -> Encoded:
    """Let the model prepare one entry as it would a prompt, between cutting off padding before and after."""
    given = {key: value for key, value in extra.items() if key not in (WORDS, MARKS, WEIGHT)}
    words, marks = extra.get(WORDS), extra.get(MARKS)
    weight = float(extra.get(WEIGHT, 1.0))
    if words is not None:
        kept = words[0].to(tokens.device)
        tokens, marks = tokens[:1, kept], None if marks is None else marks[0, words[0]]
        mask = given.get("attention_mask")
        if mask is not None:
            given["attention_mask"] = mask[:1, kept.to(mask.device)]
        if not tokens.shape[1]:
            return Encoded(tokens[0], 0, marks, weight)
    prepared, mask = _prepare(model, tokens, given, latents)
    real = prepared.abs().amax(-1) > 0 if mask is None else mask > 0
    if mask is None and not bool(real.any()):
        raise PromptError(
            "the negative conditioning holds nothing but zeros, as ConditioningZeroOut makes them: "
            "connect an encoded text"
        )
    places = real.nonzero().flatten().tolist()
    first, last = (places[0], places[-1] + 1) if places else (0, 0)
    if words is None and mask is None and last - first == len(prepared):
        _warn_of_padding(len(prepared))
    if marks is not None and len(marks) != last - first:
        marks = None
    return Encoded(prepared[first:last], first, marks, weight)


def _prepare(model: Any, tokens: Tensor, given: Mapping[str, Any], latents: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return what the model makes of a text, (tokens, channels), and its mask, (tokens,), where there is one."""
    size = {"width": latents.shape[-1] * 8, "height": latents.shape[-2] * 8}
    call = {**size, **given, "cross_attn": tokens, "noise": latents, "device": latents.device}
    made = model.extra_conds(**call)
    if "c_crossattn" in made:
        tokens = made["c_crossattn"].cond
    mask = made["attention_mask"].cond if "attention_mask" in made else given.get("attention_mask")
    if isinstance(mask, Tensor) and mask.dim() == 2 and mask.shape[1] == tokens.shape[1]:
        return tokens[0], mask[0].to(tokens.device)
    return tokens[0], None


def _warn_of_padding(tokens: int) -> None:
    """Warn of lengths to which text encoders fill up, where nothing tells words from padding."""
    if tokens % _CLIP_LENGTH == 0 or tokens in _T5_LENGTHS:
        logging.warning(
            "vsf: the negative has %d tokens, most of which may be padding, and padding acts as a negative, too. "
            "Encode it with VSF Encode Negative, which leaves padding out.",
            tokens,
        )
