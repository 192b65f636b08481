"""Turn ComfyUI's conditionings into negatives: prepared by the model as it prepares a prompt, and without padding."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vsf.errors import KnobError, PromptError
from vsf.text.embeddings import Negative, Share

from .interfaces import BaseModel, Conditioning, Options

WORDS = "vsf_words"
"""Key under which "VSF Encode Negative" tells which tokens are real, (1, tokens).

It is not called `attention_mask`, which some models take for the mask of an image.
"""
MARKS = "vsf_marks"
"""Key under which it tells which tokens are begin or end marks, (1, tokens)."""
WEIGHT = "vsf_weight"
"""Key under which it gives the weight of a negative among others."""

_LIMITS = ("area", "mask", "start_percent", "end_percent", "clip_start_percent", "clip_end_percent")
"""Keys by which the host limits an entry to a part of the picture or of the run."""
_CLIP_LENGTH = 77
_T5_LENGTHS = (256, 512)


@dataclass(frozen=True)
class Encoded:
    """One negative in the form in which the model takes text.

    Attributes:
        tokens: Real tokens only, (tokens, channels).
        start: Number of tokens that preceded the first one.
        marks: Which of them are begin or end marks; None if unknown.
        weight: Its weight among several negatives.
    """

    tokens: Tensor
    start: int
    marks: Tensor | None
    weight: float


def check(conditioning: Conditioning) -> None:
    """Raise KnobError for a conditioning that is limited to a part of the picture or of the run."""
    for _, extra in conditioning:
        limits = [key for key in _LIMITS if key in extra]
        if limits:
            raise KnobError(
                f"the negative is limited by {' and '.join(limits)}, which guidance ignores; "
                "use start, end and mask of VSF Guidance instead"
            )


def encode(model: BaseModel, conditioning: Conditioning, latents: Tensor) -> list[Encoded]:
    """Return every entry of a conditioning as a negative, without those that have no tokens.

    Args:
        model: The host's BaseModel.
        conditioning: The entries.
        latents: The denoiser's input, (batch, channels, ..., height, width).

    Raises:
        PromptError: An entry holds nothing but zeros.
    """
    encoded = [_encode(model, tokens, extra, latents) for tokens, extra in conditioning]
    return [negative for negative in encoded if len(negative.tokens)]


def joined(encoded: Sequence[Encoded], *, strip_marks: bool) -> Negative:
    """Join negatives as those of one prompt.

    Raises:
        PromptError: Begin and end marks are to be removed, and it is unknown which tokens they are.
    """
    shares = tuple(Share(len(negative.tokens), negative.weight) for negative in encoded)
    tokens = torch.cat([negative.tokens for negative in encoded])
    if not strip_marks:
        return Negative((tokens,), shares=(shares,))
    marks = [negative.marks for negative in encoded if negative.marks is not None]
    if len(marks) < len(encoded):
        raise PromptError(
            'special_tokens="strip" has to know which tokens are begin and end marks: '
            "encode the negative with VSF Encode Negative, and a text encoder that tells"
        )
    return Negative((tokens,), (torch.cat(marks),), (shares,)).stripped()


def _encode(model: BaseModel, tokens: Tensor, extra: Options, latents: Tensor) -> Encoded:
    """Remove an entry's padding, let the model prepare it as it would a prompt, and remove the padding that it adds."""
    conds = {key: value for key, value in extra.items() if key not in (WORDS, MARKS, WEIGHT)}
    words = extra.get(WORDS)
    marks = extra.get(MARKS)
    weight = float(extra.get(WEIGHT, 1.0))
    if words is not None:
        is_real = words[0].to(tokens.device)
        tokens = tokens[:1, is_real]
        marks = None if marks is None else marks[0, words[0]]
        mask = conds.get("attention_mask")
        if mask is not None:
            conds["attention_mask"] = mask[:1, is_real.to(mask.device)]
        if not tokens.shape[1]:
            return Encoded(tokens[0], 0, marks, weight)
    prepared, mask = _prepare(model, tokens, conds, latents)
    # Without a mask, rows of zeros count as padding.
    real = prepared.abs().amax(-1) > 0 if mask is None else mask > 0
    if mask is None and not bool(real.any()):
        raise PromptError(
            "the negative conditioning holds nothing but zeros, as those of ConditioningZeroOut do: "
            "connect an encoded text"
        )
    positions = real.nonzero().flatten().tolist()
    start, stop = (positions[0], positions[-1] + 1) if positions else (0, 0)
    if words is None and mask is None and stop - start == len(prepared):
        _warn_of_padding(len(prepared))
    if marks is not None and len(marks) != stop - start:
        marks = None  # the model changed the number of tokens, so the marks no longer match
    return Encoded(prepared[start:stop], start, marks, weight)


def _prepare(model: BaseModel, tokens: Tensor, conds: Options, latents: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return the text as the model prepares it, (tokens, channels), and its mask, (tokens,), if there is one."""
    size = {"width": latents.shape[-1] * 8, "height": latents.shape[-2] * 8}
    arguments = {**size, **conds, "cross_attn": tokens, "noise": latents, "device": latents.device}
    prepared = model.extra_conds(**arguments)
    if "c_crossattn" in prepared:
        tokens = prepared["c_crossattn"].cond
    mask = prepared["attention_mask"].cond if "attention_mask" in prepared else conds.get("attention_mask")
    if isinstance(mask, Tensor) and mask.dim() == 2 and mask.shape[1] == tokens.shape[1]:
        return tokens[0], mask[0].to(tokens.device)
    return tokens[0], None


def _warn_of_padding(tokens: int) -> None:
    """Warn about a length that text encoders pad to, if nothing tells words from padding."""
    if tokens % _CLIP_LENGTH == 0 or tokens in _T5_LENGTHS:
        logging.warning(
            "vsf: the negative has %d tokens, most of which may be padding, and padding acts as a negative, too. "
            "Encode it with VSF Encode Negative, which leaves padding out.",
            tokens,
        )
