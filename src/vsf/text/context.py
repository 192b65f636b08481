"""What a negative prompt belongs to: "wheels" as they stand in "a red car with wheels"."""

import re
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from vsf.errors import PromptError
from vsf.text.token_weights import Characters

GAP = "{}"
"""Where the negative prompt stands in its context."""

_PLACE = re.compile(
    r"\s*[,.;:]|\s+(?:about|above|across|after|against|along|among|around|at|before|behind|below|beneath|beside|between|"
    r"by|during|from|in|inside|into|near|on|onto|outside|over|through|to|toward|towards|under|upon|while|with|without)\b",
    re.IGNORECASE,
)


def subject(prompt: str) -> str:
    """Return what an English prompt is about: its words before the first comma or preposition ("of" is none).

    >>> subject("a photo of a red car with lights on snow")
    'a photo of a red car'
    """
    return _PLACE.split(prompt.strip(), maxsplit=1)[0]


def belonging(prompt: str) -> str:
    """Return the context of a negative prompt that is a part of the prompt's subject.

    >>> belonging("a red car on snow")
    'a red car with {}'
    """
    return f"{subject(prompt)} with {GAP}"


def contexts(within: str | Sequence[str] | None, prompts: int) -> list[str | None]:
    """Return the context of each prompt's negatives, None for none. Raises PromptError for what is no context."""
    if within is None:
        return [None] * prompts
    given: list[Any] = [*within] if isinstance(within, list | tuple) else [within] * prompts
    if len(given) != prompts or not all(isinstance(one, str) and one.count(GAP) == 1 for one in given):
        raise PromptError(
            f"within= is a text with one {GAP} where the negative prompt belongs, such as "
            f'"a red car with {GAP}", for all prompts or for each of the {prompts}; got {within!r}'
        )
    return [None if one is None else one.strip() for one in given]


def own_tokens(
    text: str, within: str, characters: Characters, special: Bool[Tensor, " tokens"]
) -> Bool[Tensor, " tokens"]:
    """Tell which tokens of `within`, with the text in it, are the text's own, or begin and end marks.

    characters: what each token stands for, padding included; special: which of the tokens that there are, are marks.
    A token belongs to the word of its last character: some tokenizers count the space before a word to it.

    Raises:
        PromptError: all is too long, so that the text was cut off.
    """
    start = within.index(GAP)
    own = [start < last <= start + len(text) for first, last in characters if last > first]
    if len(own) != int((~special).sum()) or not any(own):
        raise PromptError(f'"{text}" is cut off: "{within}" is too long for this pipeline, shorten within=')
    kept = special.clone()
    kept[~special] = torch.tensor(own, device=special.device)
    return kept
