"""Negative prompts from a CLIP: each line one of them, with its weight, its words told from padding."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from vsf.errors import KnobError, PromptError
from vsf.text.context import GAP
from vsf.text.prompt import Prompt

from .negative import MARKS, WEIGHT, WORDS, Conditioning

_MARKER = 1.25
"""A weight that marks tokens while they are counted; they are encoded without it."""
_CLIPS = ("l", "g", "h")
"""The host's names for CLIP's tokens, which are padded to a fixed length and may share their rows."""

Tokens = Mapping[str, Sequence[Sequence[tuple[Any, ...]]]]
"""For each tokenizer its chunks of (token, weight) or (token, weight, word), word 0 for marks and padding."""


def encode_negatives(clip: Any, text: str, within: str = "") -> Conditioning:
    """Encode every line of a text as a negative of its own, without padding.

    Args:
        clip: the host's CLIP.
        text: a negative on each line; a whole line in brackets, (wheels:1.2), has a weight.
        within: the context in which the negatives are read, "a red car with {}", of which only their own tokens are
            kept; "" for none.

    Raises:
        PromptError: a weight inside of a line, a minus sign, or a context without its gap.
        KnobError: there is a context, and this text encoder does not tell which tokens are whose.
    """
    if within.strip() and within.count(GAP) != 1:
        raise PromptError(f'a context has one {GAP} where the negative belongs, such as "a red car with {GAP}"')
    clip = _without_filling(clip)
    weighed = [_weighed(line) for line in text.splitlines()]
    present = [(words, weight) for words, weight in weighed if words and weight > 0]
    entries = [_encode(clip, words, weight, within.strip()) for words, weight in present or [("", 1.0)]]
    return [entry for entries_of_line in entries for entry in entries_of_line]


def _weighed(line: str) -> tuple[str, float]:
    """Return a line without brackets around all of it, and the weight that they stand for."""
    prompt = Prompt.parse(line.strip())
    if prompt.negatives:
        raise PromptError(f'"{line.strip()}" is a negative already: leave out the minus sign')
    words = prompt.positive.strip()
    if not prompt.emphasis:
        return words, 1.0
    first = prompt.emphasis[0]
    if len(prompt.emphasis) > 1 or prompt.positive[first.start : first.stop].strip() != words:
        raise PromptError(
            f'"{line.strip()}" has a weight inside: a negative is weighed as a whole, so give those words a line of '
            "their own"
        )
    return words, first.weight


def _without_filling(clip: Any) -> Any:
    """Return a clone of a CLIP whose T5 does not fill texts up; every token of T5 would attend to the filling."""
    clone = clip.clone()
    for tokenizer in clone.tokenize(""):
        if "t5" in tokenizer:
            clone.set_tokenizer_option(f"{tokenizer}_min_length", 1)
    return clone


def _encode(clip: Any, words: str, weight: float, within: str) -> list[tuple[Tensor, dict[str, Any]]]:
    """Encode one negative."""
    escaped = _escaped(words)
    if within and words:
        before, after = within.split(GAP)
        escaped = f"{_escaped(before)}({escaped}:{_MARKER}){_escaped(after)}"
    counted: Tokens = clip.tokenize(escaped, return_word_ids=True)
    plain = {
        name: [[(token[0], 1.0 if token[1] == _MARKER else token[1]) for token in chunk] for chunk in chunks]
        for name, chunks in counted.items()
    }
    flags = {name: _flags(chunks, in_context=bool(within and words)) for name, chunks in counted.items()}
    entries = []
    for cond, extra in clip.encode_from_tokens_scheduled(plain):
        told = _in_rows(flags, cond.shape[1], extra.get("attention_mask"))
        if told is None and within:
            raise KnobError(
                "this text encoder does not tell which of its tokens are the negative's: leave its context empty"
            )
        own = {} if told is None else {WORDS: told[0][None], MARKS: told[1][None]}
        entries.append((cond, {**extra, **own, WEIGHT: weight}))
    return entries


def _escaped(text: str) -> str:
    """Keep brackets from being read as weights."""
    return re.sub(r"([()])", r"\\\1", text)


def _flags(chunks: Sequence[Sequence[tuple[Any, ...]]], *, in_context: bool) -> tuple[Tensor, Tensor] | None:
    """Tell which tokens of all chunks are kept, and which are begin or end marks; None where none is known to be.

    Behind the last word stands its end mark, and then padding.
    """
    kept: list[bool] = []
    marks: list[bool] = []
    for chunk in chunks:
        words = [token[2] > 0 for token in chunk]
        last = max((at for at, is_word in enumerate(words) if is_word), default=-2)
        for at, token in enumerate(chunk):
            is_own = not in_context or token[1] == _MARKER
            kept.append(at <= last + 1 and (is_own or not words[at]))
            marks.append(not words[at])
    has_own = any(keep and not mark for keep, mark in zip(kept, marks, strict=True))
    if in_context and not has_own:
        return None
    return torch.tensor(kept), torch.tensor(marks)


def _in_rows(
    flags: Mapping[str, tuple[Tensor, Tensor] | None], rows: int, mask: Tensor | None
) -> tuple[Tensor, Tensor] | None:
    """Bring the flags of all tokenizers to the rows of what was encoded, None where it is not known how they lie.

    CLIPs stand side by side in the same rows; another encoder's rows stand behind them, or alone.
    """
    if any(own is None for own in flags.values()):
        return None
    clips = [own for name, own in flags.items() if name in _CLIPS and own is not None]
    others = [own for name, own in flags.items() if name not in _CLIPS and own is not None]
    both = _side_by_side(clips) if clips else None
    ways = []
    if len(others) == 1:
        ways.append(others[0])
        if both is not None:
            ways.append((torch.cat([both[0], others[0][0]]), torch.cat([both[1], others[0][1]])))
    if both is not None:
        ways.append(both)
    fitting = [way for way in ways if len(way[0]) == rows]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting and len(ways) == 1 and mask is not None and mask.shape[1] == rows > len(ways[0][0]):
        return _filled_up(ways[0], mask[0])
    return None


def _side_by_side(clips: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Join CLIPs that share their rows: a row is kept if one of them has a word there."""
    rows = min(len(kept) for kept, _ in clips)
    kept = torch.stack([own[:rows] for own, _ in clips]).any(0)
    return kept, torch.stack([own[:rows] for _, own in clips]).all(0)


def _filled_up(way: tuple[Tensor, Tensor], mask: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return flags with rows behind them that hold nothing, if that is what the mask says of these."""
    kept, marks = way
    behind = len(mask) - len(kept)
    if bool(mask[len(kept) :].any()):
        return None
    nothing = torch.zeros(behind, dtype=torch.bool)
    return torch.cat([kept, nothing]), torch.cat([marks, ~nothing])
