"""Weights of words in the positive prompt, as weights of its tokens."""

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
"""For each text token of a prompt the characters it stands for, (start, stop); (0, 0) for marks and padding."""


def characters_of(tokenizer: Any, text: str, length: int) -> list[tuple[int, int]]:
    """Tell which characters each token of a text stands for, padding included.

    Args:
        tokenizer: of transformers.
        text: the prompt.
        length: how many tokens it is padded or cut to.

    Raises:
        KnobError: the tokenizer is a slow one, which does not tell.
    """
    if not tokenizer.is_fast:
        raise KnobError(f"{type(tokenizer).__name__} does not tell which characters a token stands for")
    encoded = tokenizer(text, padding="max_length", truncation=True, max_length=length, return_offsets_mapping=True)
    return [(start, stop) for start, stop in encoded.offset_mapping]


@dataclass(frozen=True, slots=True, eq=False)
class TokenWeights:
    """The weights of the tokens of positive prompts.

    Attributes:
        texts: the prompts that the pipeline has to be called with, one or one for each.
        weights: (tokens,) for each of them, 1 where nothing was asked for.
    """

    texts: tuple[str, ...]
    weights: tuple[Float[Tensor, " _"], ...]

    @classmethod
    def of(cls, prompts: Sequence[Prompt], characters: Callable[[str], Characters]) -> "TokenWeights | None":
        """Turn the emphases of prompts into weights of tokens.

        Args:
            prompts: one for all prompts of the call, or one for each.
            characters: tells which characters of a text its tokens stand for.

        Returns:
            The weights, None when no prompt has an emphasis.
        """
        if not any(prompt.emphasis for prompt in prompts):
            return None
        texts = []
        weights = []
        for prompt in prompts:
            texts.append(prompt.positive)
            weights.append(_weights(prompt, characters(prompt.positive)))
        return cls(tuple(texts), tuple(weights))

    def check(self, prompt: object) -> None:
        """Raise PromptError unless a pipeline is called with these texts as its `prompt`."""
        called_with = (prompt,) if isinstance(prompt, str) else prompt
        if not isinstance(called_with, list | tuple) or tuple(called_with) != self.texts:
            raise PromptError(
                f"the weights of words belong to {', '.join(map(repr, self.texts))}, but the pipeline is called with "
                f"{prompt!r}; call it with prompt.positive"
            )

    def rows(
        self, row_to_prompt: Sequence[int | None], tokens: int, like: Tensor
    ) -> tuple[Float[Tensor, " tokens"] | None, ...]:
        """Return the weights for each batch row of a denoiser call, None where all are 1.

        Args:
            row_to_prompt: for each row the prompt that it belongs to, None for a row without.
            tokens: how many text tokens the denoiser gets. A pipeline may pad or cut off the tokens that were weighed.
            like: a tensor whose device the weights get.
        """
        of_prompts = []
        for weights in self.weights:
            fitted = F.pad(weights[:tokens], (0, max(0, tokens - len(weights))), value=1.0)
            of_prompts.append(None if bool((fitted == 1).all()) else fitted.to(like.device))
        return tuple(None if prompt is None else of_prompts[prompt] for prompt in row_to_prompt)


def _weights(prompt: Prompt, characters: Characters) -> Float[Tensor, " tokens"]:
    """Return the weight of each token: that of its last character.

    Some tokenizers count the space before a word to it, so the first character may lie outside the emphasis.
    """
    of_characters = [1.0] * len(prompt.positive)
    for part in prompt.emphasis:
        of_characters[part.start : part.stop] = [part.weight] * (part.stop - part.start)
    of_tokens = []
    for start, stop in characters:
        of_tokens.append(of_characters[stop - 1] if stop > start else 1.0)
    return torch.tensor(of_tokens)
