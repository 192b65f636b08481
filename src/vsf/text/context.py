"""Negative prompts in context: only the tokens of "wheels" are kept of the encoded "a red car with wheels"."""

import re
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from vsf.errors import PromptError
from vsf.text.token_weights import Characters

GAP = "{}"
"""The placeholder of the negative prompt in its context."""

# A comma, or a preposition of place: what follows it no longer belongs to the subject.
_AFTER_SUBJECT = re.compile(
    r"\s*[,.;:]|\s+(?:about|above|across|after|against|along|among|around|at|before|behind|below|beneath|beside|between|"
    r"by|during|from|in|inside|into|near|on|onto|outside|over|through|to|toward|towards|under|upon|while|with|without)\b",
    re.IGNORECASE,
)


def subject(prompt: str) -> str:
    """Return the subject of an English prompt: its words before the first comma or preposition (except "of").

    >>> subject("a photo of a red car with lights on snow")
    'a photo of a red car'
    """
    return _AFTER_SUBJECT.split(prompt.strip(), maxsplit=1)[0]


def belonging(prompt: str) -> str:
    """Return the context of a negative prompt that names a part of the prompt's subject.

    >>> belonging("a red car on snow")
    'a red car with {}'
    """
    return f"{subject(prompt)} with {GAP}"


def contexts(within: str | Sequence[str] | None, prompts: int) -> list[str | None]:
    """Return the context of each prompt's negatives, None for none.

    Args:
        within: one context for all prompts, or one for each.
        prompts: how many prompts there are.

    Raises:
        PromptError: a context is not a text with one {}, or there are too few or too many of them.
    """
    if within is None:
        return [None] * prompts
    of_prompts: list[Any] = [*within] if isinstance(within, list | tuple) else [within] * prompts
    if len(of_prompts) != prompts or not all(map(_is_context, of_prompts)):
        raise PromptError(
            f"within= is a text with one {GAP} where the negative prompt belongs, such as "
            f'"a red car with {GAP}", for all prompts or for each of the {prompts}; got {within!r}'
        )
    return [context.strip() for context in of_prompts]


def _is_context(value: object) -> bool:
    return isinstance(value, str) and value.count(GAP) == 1


def own_tokens(
    text: str, within: str, characters: Characters, special: Bool[Tensor, " tokens"]
) -> Bool[Tensor, " tokens"]:
    """Tell which tokens of a negative in its context are its own, or begin and end marks.

    A token belongs to the word of its last character: some tokenizers count the space before a word to it.

    Args:
        text: the negative.
        within: its context.
        characters: which characters of the whole text each token stands for, padding included.
        special: which of the encoded tokens are marks.

    Raises:
        PromptError: the whole text is too long, so that the negative was cut off.
    """
    start = within.index(GAP)
    stop = start + len(text)
    are_own = []
    for first, last in characters:
        if last > first:  # marks and padding stand for no characters
            are_own.append(start < last <= stop)
    if len(are_own) != int((~special).sum()) or not any(are_own):
        raise PromptError(f'"{text}" is cut off: "{within}" is too long for this pipeline, shorten within=')
    keep = special.clone()
    keep[~special] = torch.tensor(are_own, device=special.device)
    return keep
