"""Negative prompts as text embeddings without padding, and the tokenizer call that leaves the padding out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from vsf.attention.layout import Span
from vsf.errors import PromptError
from vsf.text.prompt import LARGEST_WEIGHT


@dataclass(frozen=True, slots=True, eq=False)
class NegativeRows:
    """Negatives laid out for one denoiser call: the i-th of every row in slot i, filled up with zeros to the longest.

    embeddings: (batch, tokens, channels); lengths: real tokens of each row, 0 for a row without a negative; parts: the
    same for each negative of a row, () when each has one at most; weights: (batch, slots), None when all are 1;
    multiple: what the length of a slot is a multiple of, so that compiled code meets few lengths.
    """

    embeddings: Float[Tensor, "batch tokens channels"]
    lengths: tuple[int, ...]
    parts: tuple[tuple[int, ...], ...] = ()
    weights: Float[Tensor, "batch slots"] | None = None
    multiple: int = 1

    @property
    def slots(self) -> tuple[int, ...]:
        """Length of each slot."""
        return tuple(-(-max(slot) // self.multiple) * self.multiple for slot in self._by_slot())

    @property
    def spans(self) -> tuple[Span, ...]:
        """The spans of the slots, the last one as long as the embeddings ask for."""
        return tuple(Span("negative", size) for size in self._sizes(self.embeddings.shape[1]))

    def valid(self, tokens: int) -> Bool[Tensor, "batch tokens"] | None:
        """Tell which of a row's `tokens` are real, in each slot the real ones first; None when all of them always are.

        The last slot is as long as `tokens` asks for.
        """
        if self.multiple == 1 and set(self.lengths) == {tokens}:
            return None
        real = torch.zeros(len(self.lengths), tokens, dtype=torch.bool, device=self.embeddings.device)
        start = 0
        for size, lengths in zip(self._sizes(tokens), self._by_slot(), strict=True):
            for row, length in enumerate(lengths):
                real[row, start : start + length] = True  # a tensor of lengths would have to be brought to the device
            start += size
        return real

    def _sizes(self, tokens: int) -> list[int]:
        """Return the length of each slot, the last one lengthened so that they are this many tokens together."""
        return [*self.slots[:-1], tokens - sum(self.slots[:-1])]

    def _by_slot(self) -> list[tuple[int, ...]]:
        """Return the length of every row's negative, for each slot."""
        return list(zip_longest(*(self.parts or [(length,) for length in self.lengths]), fillvalue=0))


_NO_MARKS = torch.zeros(0, dtype=torch.bool)


class Share(NamedTuple):
    """One of the negatives of a prompt: how many tokens, and how much it weighs."""

    tokens: int
    weight: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Negative:
    """Negative prompts as a text encoder made them, one entry per prompt, real tokens only.

    embeddings: (tokens, channels) per prompt, of any length, 0 for an empty negative; several negatives of one prompt
        stand one behind the other.
    special: per prompt and token, whether it is a begin or end mark; None when that is not known.
    shares: per prompt, (tokens, weight) of each of its negatives; by default one, of weight 1.
    texts: per prompt, what its negatives said; empty when that is not known.
    options: of the pipeline's `encode_prompt`, such as clip_skip, that they were read with; None when not known.
    Raises PromptError for entries of another shape. Embeddings that hold padding come in through `from_padded`.
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
        if any(len(shape) != 2 for shape in shapes) or len({shape[-1] for shape in shapes}) != 1:
            raise PromptError(
                f"each negative is one (tokens, channels) tensor, with the same channels in all; got {shapes}. "
                "Embeddings with padding need their mask: vsf.Negative.from_padded(embeddings, mask)."
            )
        if self.special is not None and [len(s) for s in self.special] != [len(e) for e in self.embeddings]:
            raise PromptError("`special` needs one flag per token of every negative")
        if not self.shares:
            object.__setattr__(self, "shares", tuple((Share(tokens),) for tokens in self.lengths))
        if [sum(share.tokens for share in shares) for shares in self.shares] != [*self.lengths]:
            raise PromptError(
                f"`shares` have to add up to the tokens of each prompt, {self.lengths}; got {self.shares}"
            )
        if not all(0 < share.weight <= LARGEST_WEIGHT for shares in self.shares for share in shares):
            raise PromptError(
                f"weights are above 0 and at most {LARGEST_WEIGHT:g} (leave out what weighs 0), got {self.shares}"
            )

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

    @classmethod
    def joined(cls, weighted: Sequence[tuple["Negative", float]]) -> "Negative":
        """Put several negatives beside one another for every prompt; what weighs 0 is left out.

        Args:
            weighted: each negative, of one prompt or of as many as the others, and what its weights are multiplied by.

        Raises:
            PromptError: they are for different numbers of prompts, or have different channels.
        """
        prompts = max((len(negative) for negative, _ in weighted), default=0)
        if not weighted or any(len(negative) not in (1, prompts) for negative, _ in weighted):
            raise PromptError(
                "several negatives are joined prompt by prompt: give at least one, each of one prompt or of the same "
                f"number; got {[len(negative) for negative, _ in weighted]}"
            )
        kept = [(negative, weight) for negative, weight in weighted if weight]
        if not kept:
            return cls((weighted[0][0].embeddings[0][:0],) * prompts)
        embeddings, specials, shares, texts = [], [], [], []
        for at in range(prompts):
            of_prompt = [(negative.only(at % len(negative)), weight) for negative, weight in kept]
            embeddings.append(torch.cat([one.embeddings[0] for one, _ in of_prompt]))
            specials.append(torch.cat([marks for one, _ in of_prompt for marks in one.special or ()] or [_NO_MARKS]))
            shares.append(tuple(Share(n, own * weight) for one, weight in of_prompt for n, own in one.shares[0]))
            texts.append(tuple(text for one, _ in of_prompt for own in one.texts for text in own))
        known = all(negative.special is not None for negative, _ in kept)
        told = all(negative.texts for negative, _ in kept)
        return cls(tuple(embeddings), tuple(specials) if known else None, tuple(shares), tuple(texts) if told else ())

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
        return tuple(len(entry) for entry in self.embeddings)

    @property
    def is_plain(self) -> bool:
        """Whether every prompt has one negative, of weight 1."""
        return all([share.weight for share in shares] == [1.0] for shares in self.shares)

    def stripped(self) -> "Negative":
        """Return the same without begin and end marks. Raises PromptError when it is not known which they are."""
        if self.special is None:
            raise PromptError(
                'special_tokens="strip" needs to know the begin and end marks: '
                'make the negative with vsf.encode, pass `special`, or use special_tokens="keep"'
            )
        words = tuple(entry[~marks] for entry, marks in zip(self.embeddings, self.special, strict=True))
        shares = tuple(
            tuple(Share(len(part) - int(part.sum()), share.weight) for part, share in zip(parts, own, strict=True))
            for own, parts in zip(self.shares, map(_split, self.special, self.shares), strict=True)
        )
        return Negative(words, tuple(marks[~marks] for marks in self.special), shares, self.texts, self.options)

    def rows(
        self, owners: Sequence[int | None], like: Float[Tensor, "batch _ channels"], multiple: int = 1
    ) -> NegativeRows:
        """Lay the negatives out for a batch whose row b belongs to prompt owners[b], None for a row without.

        Device and dtype are those of `like`, the text the denoiser is called with; slots are filled up to a `multiple`
        of tokens. Raises PromptError when the channels differ from its own.
        """
        channels = like.shape[-1]
        if any(self.lengths) and self.embeddings[0].shape[-1] != channels:
            raise PromptError(
                f"the negative has {self.embeddings[0].shape[-1]} channels, this denoiser's text {channels}: "
                "encode it with the same pipeline"
            )
        shares = [() if owner is None else self.shares[owner] for owner in owners]
        parts = tuple(tuple(share.tokens for share in own) for own in shares)
        rows = NegativeRows(like.new_zeros(0, 0, channels), tuple(map(sum, parts)), parts, multiple=multiple)
        filled = like.new_zeros(len(owners), sum(rows.slots), channels)
        for row, owner in enumerate(owners):
            if owner is None or not self.lengths[owner]:
                continue
            pieces = _split(self.embeddings[owner].to(like), self.shares[owner])
            for piece, slot in zip(pieces, filled[row].split(rows.slots), strict=False):
                slot[: len(piece)] = piece
        weights = None
        if any(share.weight != 1 for own in shares for share in own):
            columns = zip_longest(*([share.weight for share in own] for own in shares), fillvalue=1.0)
            weights = torch.tensor([*columns], device=like.device).T
        return replace(rows, embeddings=filled, weights=weights)


def _split(tokens: Tensor, shares: Sequence[Share]) -> tuple[Tensor, ...]:
    """Take the negatives of one prompt apart."""
    return tokens.split([share.tokens for share in shares])


class TokenizeUnpadded:
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


class TokenizePadded:
    """A stand-in for a tokenizer's call that leaves its padding, and notes which tokens are what.

    For encoders in which no token sees those behind it, so that padding can be cut off when they are done. `special`
    holds, after the call, which tokens are begin, end or padding, and `length` how many are no padding.
    """

    def __init__(self) -> None:
        self.special: Bool[Tensor, "batch tokens"] = torch.zeros(1, 0, dtype=torch.bool)
        self.length = 0

    def __call__(self, original: Callable[..., Any], tokenizer: object, *args: Any, **kwargs: Any) -> Any:
        """Tokenize as the pipeline asks; calls that it makes only to count tokens are not noted."""
        if kwargs.get("padding") != "max_length":
            return original(tokenizer, *args, **kwargs)
        kwargs |= {"return_special_tokens_mask": True, "return_attention_mask": True}
        encoded = original(tokenizer, *args, **kwargs)
        self.special = encoded.pop("special_tokens_mask").bool()
        self.length = int(encoded["attention_mask"].sum(1).max())
        return encoded


class TokenizeTemplate:
    """A stand-in for a language model's tokenizer's call, where a pipeline puts the prompt into a template or a chat.

    It leaves the padding out, and `without`, a piece of the template. `special` holds, after the first call, which
    tokens are not the prompt's own: what comes from the template stands for no word of it. `characters` holds, for each
    token that is the prompt's own, which characters it stands for, start and stop.
    """

    def __init__(self, text: str, without: str = "") -> None:
        self.text, self.without = text.strip(), without
        self.special: Bool[Tensor, " tokens"] = torch.zeros(0, dtype=torch.bool)
        self.characters: list[tuple[int, int]] = []

    def __call__(self, original: Callable[..., Any], tokenizer: Any, text: Any, *args: Any, **kwargs: Any) -> Any:
        """Tokenize one text as the pipeline asks, but for the padding."""
        if kwargs.get("padding") == "max_length":
            kwargs["padding"] = "longest"
        (whole,) = [text] if isinstance(text, str) else text
        whole = whole.replace(self.without, "") if self.without else whole
        kwargs["return_offsets_mapping"] = True
        encoded = original(tokenizer, whole if isinstance(text, str) else [whole], *args, **kwargs)
        (offsets,) = torch.as_tensor(encoded.pop("offset_mapping")).reshape(1, -1, 2)
        if not len(self.special):
            begin, (start, stop) = whole.rfind(self.text), offsets.T
            self.special = (stop <= begin) | (start >= begin + len(self.text)) | (stop <= start)
            self.characters = [(first - begin, last - begin) for first, last in offsets[~self.special].tolist()]
        return encoded
