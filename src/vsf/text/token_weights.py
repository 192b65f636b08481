"""Weights of words in the positive prompt, told token by token."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vsf.errors import KnobError, PromptError
from vsf.text.prompt import Prompt

Characters = Sequence[tuple[int, int]]
"""For each text token of a prompt the characters it stands for, start and stop; (0, 0) for marks and padding."""


def characters_of(tokenizer: Any, text: str, length: int) -> list[tuple[int, int]]:
    """Tell which characters each of `length` tokens stands for, padding included.

    Raises KnobError for a tokenizer that does not know.
    """
    if not tokenizer.is_fast:
        raise KnobError(f"{type(tokenizer).__name__} does not tell which characters a token stands for")
    encoded = tokenizer(text, padding="max_length", truncation=True, max_length=length, return_offsets_mapping=True)
    return [(start, stop) for start, stop in encoded.offset_mapping]


@dataclass(frozen=True, slots=True, eq=False)
class TokenWeights:
    """Positive prompts whose words are weighted.

    texts: what the prompts have to be. weights: (tokens,) per prompt, 1 where nothing was asked for. One entry, or one
    per prompt.
    """

    texts: tuple[str, ...]
    weights: tuple[Float[Tensor, " _"], ...]

    @classmethod
    def of(cls, prompts: Sequence[Prompt], characters: Callable[[str], Characters]) -> "TokenWeights | None":
        """Weigh the tokens of each prompt by its emphases; None where there is none.

        A token has the weight of its last character: some tokenizers count the space before a word to it.
        """
        if not any(prompt.emphasis for prompt in prompts):
            return None
        return cls(
            tuple(prompt.positive for prompt in prompts),
            tuple(_weights(prompt, characters(prompt.positive)) for prompt in prompts),
        )

    def check(self, prompt: object) -> None:
        """Raise PromptError unless a pipeline is called with these texts."""
        called = (prompt,) if isinstance(prompt, str) else prompt
        if not isinstance(called, list | tuple) or tuple(called) != self.texts:
            raise PromptError(
                f"the weights of words belong to {', '.join(map(repr, self.texts))}, but the pipeline is called with "
                f"{prompt!r}; call it with prompt.positive"
            )

    def rows(
        self, owners: Sequence[int | None], tokens: int, like: Tensor
    ) -> tuple[Float[Tensor, " tokens"] | None, ...]:
        """Return the weights of each row of a batch, whose row b belongs to prompt owners[b]; None where all are 1.

        A pipeline may have more text tokens than were weighed, all of them filling, or cut some off.
        """
        fitted = [F.pad(weights[:tokens], (0, max(0, tokens - len(weights))), value=1.0) for weights in self.weights]
        placed = [None if bool((weights == 1).all()) else weights.to(like.device) for weights in fitted]
        return tuple(None if owner is None else placed[owner] for owner in owners)


def _weights(prompt: Prompt, characters: Characters) -> Float[Tensor, " tokens"]:
    """Return the weight of each token."""
    of_characters = [1.0] * len(prompt.positive)
    for part in prompt.emphasis:
        of_characters[part.start : part.stop] = [part.weight] * (part.stop - part.start)
    return torch.tensor([of_characters[stop - 1] if stop > start else 1.0 for start, stop in characters])
