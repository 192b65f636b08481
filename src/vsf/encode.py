"""Negative prompts as text embeddings without padding, and the tokenizer call that leaves the padding out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from vsf.errors import PromptError


@dataclass(frozen=True, slots=True, eq=False)
class NegativeRows:
    """Negatives laid out for one denoiser call, each filled up with zeros to the longest.

    embeddings: (batch, tokens, channels); lengths: real tokens of each row, 0 for a row without a negative.
    """

    embeddings: Float[Tensor, "batch tokens channels"]
    lengths: tuple[int, ...]

    def valid(self, tokens: int) -> Bool[Tensor, "batch tokens"] | None:
        """Tell which of a row's `tokens` are real, the real ones first; None when all of them are."""
        if set(self.lengths) == {tokens}:
            return None
        lengths = torch.tensor(self.lengths, device=self.embeddings.device)
        return torch.arange(tokens, device=lengths.device) < lengths[:, None]


@dataclass(frozen=True, slots=True, eq=False)
class Negative:
    """Negative prompts as a text encoder made them, one entry per prompt, real tokens only.

    embeddings: (tokens, channels) per prompt, of any length, 0 for an empty negative.
    special: per prompt and token, whether it is a begin or end mark; None when that is not known.
    Raises PromptError for entries of another shape. Embeddings that hold padding come in through `from_padded`.
    """

    embeddings: tuple[Float[Tensor, "_ channels"], ...]
    special: tuple[Bool[Tensor, " _"], ...] | None = None

    def __post_init__(self) -> None:
        if not self.embeddings:
            raise PromptError("no negative prompt: give at least one entry, an empty one for no guidance")
        shapes = [tuple(entry.shape) for entry in self.embeddings]
        if any(len(shape) != 2 for shape in shapes) or len({shape[-1] for shape in shapes}) != 1:
            raise PromptError(
                f"each negative is one (tokens, channels) tensor, with the same channels in all; got {shapes}. "
                "Embeddings with padding need their mask: vsf.Negative.from_padded(embeddings, mask)."
            )
        if self.special is not None and [len(s) for s in self.special] != [len(e) for e in self.embeddings]:
            raise PromptError("`special` needs one flag per token of every negative")

    @classmethod
    def from_padded(
        cls, embeddings: Float[Tensor, "batch tokens channels"], mask: Shaped[Tensor, "batch tokens"]
    ) -> "Negative":
        """Keep the tokens whose `mask` is True or 1; padding must not take part in the guidance.

        Raises PromptError when the mask does not fit.
        """
        if embeddings.ndim != 3 or mask.shape != embeddings.shape[:2]:
            raise PromptError(
                f"expected embeddings (batch, tokens, channels) and a mask (batch, tokens), got "
                f"{tuple(embeddings.shape)} and {tuple(mask.shape)}"
            )
        return cls(tuple(row[keep] for row, keep in zip(embeddings, mask.bool(), strict=True)))

    def __len__(self) -> int:
        return len(self.embeddings)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of each negative."""
        return tuple(len(entry) for entry in self.embeddings)

    def stripped(self) -> "Negative":
        """Return the same without begin and end marks. Raises PromptError when it is not known which they are."""
        if self.special is None:
            raise PromptError(
                'special_tokens="strip" needs to know the begin and end marks: '
                'make the negative with vsf.encode, pass `special`, or use special_tokens="keep"'
            )
        words = tuple(entry[~marks] for entry, marks in zip(self.embeddings, self.special, strict=True))
        return Negative(words, tuple(marks[~marks] for marks in self.special))

    def rows(self, owners: Sequence[int | None], like: Float[Tensor, "batch _ channels"]) -> NegativeRows:
        """Lay the negatives out for a batch whose row b belongs to prompt owners[b], None for a row without.

        Device and dtype are those of `like`, the text the denoiser is called with. Raises PromptError when the
        channels differ from its own.
        """
        channels = self.embeddings[0].shape[-1]
        if channels != like.shape[-1]:
            raise PromptError(
                f"the negative has {channels} channels, this denoiser's text {like.shape[-1]}: "
                "encode it with the same pipeline"
            )
        lengths = [0 if owner is None else len(self.embeddings[owner]) for owner in owners]
        filled = like.new_zeros(len(owners), max(lengths), channels)
        for row, owner in enumerate(owners):
            if owner is not None:
                filled[row, : lengths[row]] = self.embeddings[owner].to(like)
        return NegativeRows(filled, tuple(lengths))


class Unpadded:
    """A stand-in for a tokenizer's call that returns real tokens where the pipeline asks for a padded sequence.

    Padding cannot simply be cut off after encoding: some encoders let every token attend to it. With a `length`, the
    sequence is padded up to that instead. `special` holds, after the call, which tokens are begin, end or padding.
    """

    def __init__(self, length: int | None = None) -> None:
        self.length = length
        self.special: Bool[Tensor, "batch tokens"] = torch.zeros(1, 0, dtype=torch.bool)

    def __call__(self, original: Callable[..., Any], tokenizer: object, *args: Any, **kwargs: Any) -> Any:
        """Tokenize as the pipeline asks, but for the padding."""
        if kwargs.get("padding") != "max_length":
            return original(tokenizer, *args, **kwargs)
        kwargs |= {"padding": "longest"} if self.length is None else {"max_length": self.length}
        encoded = original(tokenizer, *args, **kwargs, return_special_tokens_mask=True)
        self.special = encoded.pop("special_tokens_mask").bool()
        return encoded
