"""Encode negative prompts with a CLIP: one negative a line, with a weight and without padding."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from vsf.errors import KnobError, PromptError
from vsf.text.context import GAP
from vsf.text.prompt import Prompt

from .interfaces import Chunk, Clip, Conditioning
from .negative import MARKS, WEIGHT, WORDS

_MARKER = 1.25
"""A weight that marks a negative's own tokens in its context; they are encoded without it."""
_CLIPS = ("l", "g", "h")
"""The host's names for CLIP's tokenizers; their tokens are padded to a fixed length and may share rows."""

Flags = tuple[Tensor, Tensor]
"""Two boolean tensors (tokens,): which tokens are kept, and which are begin or end marks."""


def encode_negatives(clip: Clip, text: str, within: str = "") -> Conditioning:
    """Encode every line of a text as a negative of its own, without padding.

    Args:
        clip: The host's CLIP.
        text: One negative a line; a whole line in brackets, (wheels:1.2), has a weight.
        within: The context in which the negatives are read, "a red car with {}", of which only the negatives' own
            tokens are kept; "" for none.

    Raises:
        PromptError: There is a weight inside a line, a minus sign, or a context without its gap.
        KnobError: There is a context, and this text encoder does not tell which tokens belong to the negative.
    """
    if within.strip() and within.count(GAP) != 1:
        raise PromptError(f'a context has one {GAP} where the negative belongs, such as "a red car with {GAP}"')
    clip = _without_padding(clip)
    lines = [_parse_line(line) for line in text.splitlines()]
    negatives = [(words, weight) for words, weight in lines if words and weight > 0]
    conditioning = []
    for words, weight in negatives or [("", 1.0)]:
        conditioning += _encode(clip, words, weight, within.strip())
    return conditioning


def _parse_line(line: str) -> tuple[str, float]:
    """Return a line's words without brackets around all of it, and the weight that these give."""
    prompt = Prompt.parse(line.strip())
    if prompt.negatives:
        raise PromptError(f'"{line.strip()}" is a negative already: leave out the minus sign')
    words = prompt.positive.strip()
    if not prompt.emphasis:
        return words, 1.0
    first = prompt.emphasis[0]
    if len(prompt.emphasis) > 1 or prompt.positive[first.start : first.stop].strip() != words:
        raise PromptError(
            f'"{line.strip()}" has a weight inside: a negative is weighted as a whole, so put those words on a line of '
            "their own"
        )
    return words, first.weight


def _without_padding(clip: Clip) -> Clip:
    """Return a clone of a CLIP whose T5 does not pad texts; every token of T5 would attend to the padding."""
    clone = clip.clone()
    for tokenizer in clone.tokenize(""):
        if "t5" in tokenizer:
            clone.set_tokenizer_option(f"{tokenizer}_min_length", 1)
    return clone


def _encode(clip: Clip, words: str, weight: float, within: str) -> list[tuple[Tensor, dict[str, Any]]]:
    """Encode one negative; there may be several entries, as the host may schedule its text encoder."""
    escaped = _escaped(words)
    if within and words:
        before, after = within.split(GAP)
        escaped = f"{_escaped(before)}({escaped}:{_MARKER}){_escaped(after)}"
    marked = clip.tokenize(escaped, return_word_ids=True)
    plain: dict[str, list[list[tuple[Any, float]]]] = {}
    flags: dict[str, Flags | None] = {}
    for name, chunks in marked.items():
        plain[name] = [_without_marker(chunk) for chunk in chunks]
        flags[name] = _flags(chunks, in_context=bool(within and words))
    entries = []
    for cond, extra in clip.encode_from_tokens_scheduled(plain):
        row_flags = _flags_of_rows(flags, cond.shape[1], extra.get("attention_mask"))
        if row_flags is None:
            if within:
                raise KnobError(
                    "this text encoder does not tell which of its tokens are the negative's: leave its context empty"
                )
            entries.append((cond, {**extra, WEIGHT: weight}))
        else:
            kept, marks = row_flags
            entries.append((cond, {**extra, WORDS: kept[None], MARKS: marks[None], WEIGHT: weight}))
    return entries


def _without_marker(chunk: Chunk) -> list[tuple[Any, float]]:
    """Return a chunk's (token, weight) pairs, the marker weight replaced by 1."""
    return [(token[0], 1.0 if token[1] == _MARKER else token[1]) for token in chunk]


def _escaped(text: str) -> str:
    """Escape brackets, which would be read as weights."""
    return re.sub(r"([()])", r"\\\1", text)


def _flags(chunks: Sequence[Chunk], *, in_context: bool) -> Flags | None:
    """Return the flags of the tokens of all chunks; None if there is a context and no token is marked as its own.

    The last word is followed by its end mark, and then by padding.
    """
    kept: list[bool] = []
    marks: list[bool] = []
    has_own_words = False
    for chunk in chunks:
        is_word = [token[2] > 0 for token in chunk]
        last_word = max((position for position, word in enumerate(is_word) if word), default=-2)
        for position, token in enumerate(chunk):
            is_own = not in_context or token[1] == _MARKER
            kept.append(position <= last_word + 1 and (is_own or not is_word[position]))
            marks.append(not is_word[position])
            has_own_words |= kept[-1] and is_word[position]
    if in_context and not has_own_words:
        return None
    return torch.tensor(kept), torch.tensor(marks)


def _flags_of_rows(flags: Mapping[str, Flags | None], rows: int, mask: Tensor | None) -> Flags | None:
    """Combine the flags of all tokenizers to those of the encoded rows; None if it is unknown which rows are whose.

    CLIPs share the same rows, their channels side by side; another encoder's rows follow them, or stand alone.
    """
    clips: list[Flags] = []
    others: list[Flags] = []
    for name, flags_of_tokenizer in flags.items():
        if flags_of_tokenizer is None:
            return None
        (clips if name in _CLIPS else others).append(flags_of_tokenizer)
    layouts: list[Flags] = []
    if len(others) == 1:
        layouts.append(others[0])
    if clips:
        shared = _join_clips(clips)
        layouts.append(shared)
        if len(others) == 1:
            layouts.append((torch.cat([shared[0], others[0][0]]), torch.cat([shared[1], others[0][1]])))
    # The number of rows tells which layout it is, unless two of them have the same.
    fitting = [layout for layout in layouts if len(layout[0]) == rows]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting and len(layouts) == 1 and mask is not None and mask.shape[1] == rows > len(layouts[0][0]):
        return _with_padding(layouts[0], mask[0])
    return None


def _join_clips(clips: Sequence[Flags]) -> Flags:
    """Join the flags of CLIPs that share rows: a row is kept if any of them keeps it, a mark if it is one in all."""
    rows = min(len(kept) for kept, _ in clips)
    kept = torch.stack([kept[:rows] for kept, _ in clips]).any(0)
    marks = torch.stack([marks[:rows] for _, marks in clips]).all(0)
    return kept, marks


def _with_padding(flags: Flags, mask: Tensor) -> Flags | None:
    """Append the rows of padding that a mask has behind the tokens; None if these rows are not all masked out."""
    kept, marks = flags
    if bool(mask[len(kept) :].any()):
        return None
    padding = torch.zeros(len(mask) - len(kept), dtype=torch.bool)
    return torch.cat([kept, padding]), torch.cat([marks, ~padding])
