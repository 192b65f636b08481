"""Negative prompts as text embeddings without padding, and overrides of tokenizer calls that leave the padding out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from vsf.attention.layout import Span
from vsf.errors import PromptError
from vsf.text.prompt import LARGEST_WEIGHT

Tokenize = Callable[..., Any]
"""A tokenizer's own `__call__`, as a plain function: called as original(tokenizer, *args, **kwargs)."""


@dataclass(frozen=True, slots=True, eq=False)
class NegativeRows:
    """The negatives laid out for the batch rows of one denoiser call.

    The i-th negative of every row stands in slot i, which is padded with zeros to the longest one.

    Attributes:
        embeddings: the slots one behind the other.
        lengths: real tokens of each row, 0 for a row without a negative.
        parts: real tokens of each negative of a row; () when each row has one negative at most.
        weights: of each row's negatives; None when all are 1.
        sound_weights: the same for the sound of a clip; None where they do not differ.
        multiple: the length of a slot is a multiple of this, so that compiled code meets few lengths.
    """

    embeddings: Float[Tensor, "batch tokens channels"]
    lengths: tuple[int, ...]
    parts: tuple[tuple[int, ...], ...] = ()
    weights: Float[Tensor, "batch slots"] | None = None
    sound_weights: Float[Tensor, "batch slots"] | None = None
    multiple: int = 1

    @property
    def slots(self) -> tuple[int, ...]:
        """Length of each slot."""
        slots = []
        for lengths in self._lengths_by_slot():
            multiples = -(-max(lengths) // self.multiple)  # rounded up
            slots.append(multiples * self.multiple)
        return tuple(slots)

    @property
    def spans(self) -> tuple[Span, ...]:
        """The spans of the slots, the last one extended to the end of the embeddings."""
        return tuple(Span("negative", size) for size in self._sizes(self.embeddings.shape[1]))

    def valid(self, tokens: int) -> Bool[Tensor, "batch tokens"] | None:
        """Tell which tokens of each row are real: the first ones of each slot.

        Args:
            tokens: how many tokens a row has; the last slot is extended to that.

        Returns:
            The flags, None when all tokens are real and always are.
        """
        if self.multiple == 1 and set(self.lengths) == {tokens}:
            return None
        real = torch.zeros(len(self.lengths), tokens, dtype=torch.bool, device=self.embeddings.device)
        start = 0
        for size, lengths in zip(self._sizes(tokens), self._lengths_by_slot(), strict=True):
            for row, length in enumerate(lengths):
                # Filled row by row: a tensor of lengths would have to be brought to the device, which waits for it.
                real[row, start : start + length] = True
            start += size
        return real

    def _sizes(self, tokens: int) -> list[int]:
        """Return the length of each slot, the last one extended so that they add up to this many tokens."""
        return [*self.slots[:-1], tokens - sum(self.slots[:-1])]

    def _lengths_by_slot(self) -> list[tuple[int, ...]]:
        """Return for each slot the length of every row's negative."""
        parts = self.parts or [(length,) for length in self.lengths]
        return list(zip_longest(*parts, fillvalue=0))


class Share(NamedTuple):
    """The part of one negative in the embeddings of its prompt: how many tokens, and how much it weighs.

    A clip with sound may have another weight there: `sound`, None for the same one. One of the two may be 0.
    """

    tokens: int
    weight: float = 1.0
    sound: float | None = None

    @property
    def sound_weight(self) -> float:
        """The weight in the sound."""
        return self.weight if self.sound is None else self.sound


@dataclass(frozen=True, slots=True, eq=False)
class Negative:
    """Negative prompts as a text encoder made them, one entry per prompt, real tokens only.

    Embeddings that hold padding come in through `from_padded`.

    Attributes:
        embeddings: (tokens, channels) per prompt, of any length, 0 for an empty negative; several negatives of one
            prompt stand one behind the other.
        special: per prompt and token, whether it is a begin or end mark; None when that is not known.
        shares: per prompt, (tokens, weight) of each of its negatives; by default one, of weight 1.
        texts: per prompt, the texts of its negatives; empty when they are not known.
        options: of the pipeline's `encode_prompt`, such as clip_skip, that they were encoded with; None when not known.

    Raises:
        PromptError: the entries do not fit together.
    """

    embeddings: tuple[Float[Tensor, "_ channels"], ...]
    special: tuple[Bool[Tensor, " _"], ...] | None = None
    shares: tuple[tuple[Share, ...], ...] = ()
    texts: tuple[tuple[str, ...], ...] = ()
    options: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if not self.embeddings:
            raise PromptError("no negative prompt: give at least one entry, an empty one for no guidance")
        shapes = [tuple(entry.shape) for entry in self.embeddings]
        for shape in shapes:
            if len(shape) != 2 or shape[1] != shapes[0][1]:
                raise PromptError(
                    f"each negative is one (tokens, channels) tensor, with the same channels in all; got {shapes}. "
                    "Embeddings with padding need their mask: vsf.Negative.from_padded(embeddings, mask)."
                )
        if self.special is not None and tuple(map(len, self.special)) != self.lengths:
            raise PromptError("`special` needs one flag per token of every negative")
        if not self.shares:
            object.__setattr__(self, "shares", tuple((Share(tokens),) for tokens in self.lengths))
        if tuple(map(sum, map(_lengths, self.shares))) != self.lengths:
            raise PromptError(
                f"`shares` have to add up to the tokens of each prompt, {self.lengths}; got {self.shares}"
            )
        for share in chain.from_iterable(self.shares):
            pair = (share.weight, share.sound_weight)
            if min(pair) < 0 or not 0 < max(pair) <= LARGEST_WEIGHT:
                raise PromptError(
                    f"weights are above 0 and at most {LARGEST_WEIGHT:g} (leave out what weighs 0), got {self.shares}"
                )

    @classmethod
    def from_padded(
        cls, embeddings: Float[Tensor, "batch tokens channels"], mask: Shaped[Tensor, "batch tokens"]
    ) -> "Negative":
        """Drop the padding of embeddings, which must not take part in the guidance.

        Args:
            embeddings: of each prompt, padded to one length.
            mask: True or 1 for the tokens to keep.

        Raises:
            PromptError: the mask does not fit.
        """
        if embeddings.ndim != 3 or mask.shape != embeddings.shape[:2]:
            raise PromptError(
                f"expected embeddings (batch, tokens, channels) and a mask (batch, tokens), got "
                f"{tuple(embeddings.shape)} and {tuple(mask.shape)}"
            )
        return cls(tuple(row[keep] for row, keep in zip(embeddings, mask.bool(), strict=True)))

    @classmethod
    def joined(cls, weighted: Sequence[tuple["Negative", float]]) -> "Negative":
        """Join several negatives, prompt by prompt; those that weigh 0 are left out.

        Args:
            weighted: each negative, of one prompt or of as many as the others, and a factor for its weights.

        Raises:
            PromptError: they are for different numbers of prompts, or have different channels.
        """
        prompt_counts = []
        present = []
        for negative, weight in weighted:
            prompt_counts.append(len(negative))
            if weight:
                present.append((negative, weight))
        prompts = max(prompt_counts, default=0)
        if not weighted or not {1, prompts}.issuperset(prompt_counts):
            raise PromptError(
                "several negatives are joined prompt by prompt: give at least one, each of one prompt or of the same "
                f"number; got {prompt_counts}"
            )
        if not present:
            empty = weighted[0][0].embeddings[0][:0]
            return cls((empty,) * prompts)
        embeddings = []
        special: list[Tensor] = []
        shares = []
        texts: list[tuple[str, ...]] = []
        for prompt in range(prompts):
            joined = _joined_prompt(present, prompt)
            embeddings.append(joined.embeddings[0])
            shares.append(joined.shares[0])
            special += joined.special or ()
            texts += joined.texts
        # Marks and texts are known for all prompts or for none.
        return cls(tuple(embeddings), tuple(special) if special else None, tuple(shares), tuple(texts))

    def only(self, prompt: int) -> "Negative":
        """Return the negatives of one prompt."""
        return Negative(
            (self.embeddings[prompt],),
            None if self.special is None else (self.special[prompt],),
            (self.shares[prompt],),
            (self.texts[prompt],) if self.texts else (),
            self.options,
        )

    def __len__(self) -> int:
        return len(self.embeddings)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of each prompt's negatives."""
        return tuple(map(len, self.embeddings))

    @property
    def is_plain(self) -> bool:
        """True if every prompt has one negative, of weight 1."""
        return all(_weights(shares) == _sound_weights(shares) == (1.0,) for shares in self.shares)

    def stripped(self) -> "Negative":
        """Return the same without begin and end marks. Raises PromptError when it is not known which they are."""
        if self.special is None:
            raise PromptError(
                'special_tokens="strip" needs to know the begin and end marks: '
                'make the negative with vsf.encode, pass `special`, or use special_tokens="keep"'
            )
        embeddings = []
        special = []
        shares = []
        for entry, marks, shares_of_prompt in zip(self.embeddings, self.special, self.shares, strict=True):
            embeddings.append(entry[~marks])
            special.append(marks[~marks])
            marks_of_parts = _split(marks, shares_of_prompt)
            stripped_shares = []
            for share, marks_of_part in zip(shares_of_prompt, marks_of_parts, strict=True):
                stripped_shares.append(share._replace(tokens=share.tokens - int(marks_of_part.sum())))
            shares.append(tuple(stripped_shares))
        return Negative(tuple(embeddings), tuple(special), tuple(shares), self.texts, self.options)

    def rows(
        self, row_to_prompt: Sequence[int | None], like: Float[Tensor, "batch _ channels"], multiple: int = 1
    ) -> NegativeRows:
        """Lay the negatives out for the batch rows of a denoiser call.

        Args:
            row_to_prompt: for each row the prompt that it belongs to, None for a row without negatives.
            like: the text that the denoiser is called with, whose device and dtype the rows get.
            multiple: the length of a slot is padded to a multiple of this.

        Raises:
            PromptError: the denoiser's text has other channels.
        """
        channels = like.shape[-1]
        if any(self.lengths) and self.embeddings[0].shape[-1] != channels:
            raise PromptError(
                f"the negative has {self.embeddings[0].shape[-1]} channels, this denoiser's text {channels}: "
                "encode it with the same pipeline"
            )
        shares_of_rows: list[tuple[Share, ...]] = []
        for prompt in row_to_prompt:
            shares_of_rows.append(() if prompt is None else self.shares[prompt])
        parts = tuple(map(_lengths, shares_of_rows))
        rows = NegativeRows(like.new_zeros(0, 0, channels), tuple(map(sum, parts)), parts, multiple=multiple)
        embeddings = like.new_zeros(len(row_to_prompt), sum(rows.slots), channels)
        for row, prompt in enumerate(row_to_prompt):
            if prompt is None or not self.lengths[prompt]:
                continue
            pieces = _split(self.embeddings[prompt].to(like), self.shares[prompt])
            # A row may have fewer negatives than there are slots.
            for piece, slot in zip(pieces, embeddings[row].split(rows.slots), strict=False):
                slot[: len(piece)] = piece
        weights_of_rows = list(map(_weights, shares_of_rows))
        sound_weights_of_rows = list(map(_sound_weights, shares_of_rows))
        weights = None
        sound_weights = None
        if set(chain.from_iterable(weights_of_rows)) - {1.0}:
            weights = _in_slots(weights_of_rows, like.device)
        if sound_weights_of_rows != weights_of_rows:
            sound_weights = _in_slots(sound_weights_of_rows, like.device)
        return replace(rows, embeddings=embeddings, weights=weights, sound_weights=sound_weights)


def _joined_prompt(weighted: Sequence[tuple[Negative, float]], prompt: int) -> Negative:
    """Join the negatives of one prompt; marks and texts are left out where one of them does not know its own."""
    embeddings = []
    special: list[Tensor] = []
    shares = []
    texts: list[tuple[str, ...]] = []
    for negative, weight in weighted:
        # A negative of one prompt counts for all of them.
        of_prompt = negative.only(prompt % len(negative))
        embeddings.append(of_prompt.embeddings[0])
        special += of_prompt.special or ()
        texts += of_prompt.texts
        for share in of_prompt.shares[0]:
            sound = None if share.sound is None else share.sound * weight
            shares.append(Share(share.tokens, share.weight * weight, sound))
    knows_special = len(special) == len(weighted)
    knows_texts = len(texts) == len(weighted)
    return Negative(
        (torch.cat(embeddings),),
        (torch.cat(special),) if knows_special else None,
        (tuple(shares),),
        (tuple(chain.from_iterable(texts)),) if knows_texts else (),
    )


def _lengths(shares: Sequence[Share]) -> tuple[int, ...]:
    return tuple(share.tokens for share in shares)


def _weights(shares: Sequence[Share]) -> tuple[float, ...]:
    return tuple(share.weight for share in shares)


def _sound_weights(shares: Sequence[Share]) -> tuple[float, ...]:
    return tuple(share.sound_weight for share in shares)


def _in_slots(weights_of_rows: Sequence[tuple[float, ...]], device: torch.device) -> Float[Tensor, "batch slots"]:
    """Lay out the weights of each row's negatives; a row may have fewer of them than others."""
    return torch.tensor(list(zip_longest(*weights_of_rows, fillvalue=1.0)), device=device).T


def _split(tokens: Tensor, shares: Sequence[Share]) -> tuple[Tensor, ...]:
    """Split the tokens of one prompt into those of each of its negatives."""
    return tokens.split(list(_lengths(shares)))


# Overrides of a tokenizer's `__call__`, for `vsf.patching.swaps.calls_swapped` ----------------------------------------


class TokenizeUnpadded:
    """Overrides a tokenizer's call to return real tokens only where the pipeline asks for a padded sequence.

    Padding cannot simply be cut off after encoding: some encoders let every token attend to it.

    Attributes:
        special: after the call, which tokens are begin or end marks or padding.
    """

    def __init__(self, length: int | None = None) -> None:
        """Take the length to pad to instead of the pipeline's own; None for no padding."""
        self.length = length
        self.special: Bool[Tensor, "batch tokens"] = torch.zeros(1, 0, dtype=torch.bool)

    def __call__(self, original: Tokenize, tokenizer: object, *args: Any, **kwargs: Any) -> Any:
        """Tokenize as the pipeline asks, except for the padding."""
        multiple = kwargs.pop("pad_to_multiple_of", None)
        if kwargs.get("padding") != "max_length" and multiple is None:
            return original(tokenizer, *args, **kwargs)
        kwargs |= {"padding": "longest"} if self.length is None else {"max_length": self.length}
        encoded = original(tokenizer, *args, **kwargs, return_special_tokens_mask=True)
        self.special = encoded.pop("special_tokens_mask").bool()
        return encoded


class TokenizePadded:
    """Overrides a tokenizer's call to note which tokens are marks or padding; the padding stays.

    For encoders in which no token sees those behind it, so that padding can be cut off after encoding.

    Attributes:
        special: after the call, which tokens are begin or end marks or padding.
        length: after the call, how many tokens are not padding.
    """

    def __init__(self) -> None:
        self.special: Bool[Tensor, "batch tokens"] = torch.zeros(1, 0, dtype=torch.bool)
        self.length = 0

    def __call__(self, original: Tokenize, tokenizer: object, *args: Any, **kwargs: Any) -> Any:
        """Tokenize as the pipeline asks; calls that it makes only to count tokens are not noted."""
        if kwargs.get("padding") != "max_length":
            return original(tokenizer, *args, **kwargs)
        kwargs |= {"return_special_tokens_mask": True, "return_attention_mask": True}
        encoded = original(tokenizer, *args, **kwargs)
        self.special = encoded.pop("special_tokens_mask").bool()
        self.length = int(encoded["attention_mask"].sum(1).max())
        return encoded


class TokenizeTemplate:
    """Overrides the call of a language model's tokenizer, where a pipeline puts the prompt into a template or a chat.

    The padding is left out.

    Attributes:
        special: after the first call, which tokens are not the prompt's own, such as those of the template.
        characters: after the first call, for each token of the prompt which characters of it the token stands for,
            start and stop.
    """

    def __init__(self, text: str, without: str = "") -> None:
        """Take the prompt, and a piece of the template to leave out."""
        self.text = text.strip()
        self.without = without
        self.special: Bool[Tensor, " tokens"] = torch.zeros(0, dtype=torch.bool)
        self.characters: list[tuple[int, int]] = []

    def __call__(
        self, original: Tokenize, tokenizer: object, text: str | Sequence[str], *args: Any, **kwargs: Any
    ) -> Any:
        """Tokenize one text as the pipeline asks, except for the padding."""
        if kwargs.get("padding") == "max_length":
            kwargs["padding"] = "longest"
        (templated,) = [text] if isinstance(text, str) else text
        if self.without:
            templated = templated.replace(self.without, "")
        kwargs["return_offsets_mapping"] = True
        encoded = original(tokenizer, templated if isinstance(text, str) else [templated], *args, **kwargs)
        (offsets,) = torch.as_tensor(encoded.pop("offset_mapping")).reshape(1, -1, 2)
        if not len(self.special):
            # From the right: a template may quote the words of a short prompt in its instructions, before the prompt.
            begin = templated.rfind(self.text)
            end = begin + len(self.text)
            start, stop = offsets.T
            self.special = (stop <= begin) | (start >= end) | (stop <= start)
            # Relative to the prompt: the template puts text before it.
            self.characters = []
            for first, last in offsets[~self.special].tolist():
                self.characters.append((first - begin, last - begin))
        return encoded
