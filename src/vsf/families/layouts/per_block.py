"""Families whose negatives are passed from block to block, because they cannot stand in the denoiser's text argument.

These denoisers measure, pad, pool or reorder the text before it reaches the blocks. So the model is called with its own
arguments, and each block gets the negatives behind its own tokens and gives them back. The image's positions, the
pooled text, masks and the residuals of a ControlNet stay those of the positive prompt alone.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor

from vsf.attention.layout import Span
from vsf.families.base.family import Family, Injection, NegativeStream, Overrides, Running, Tokens
from vsf.families.base.host import CallArguments, Denoiser, Original
from vsf.families.base.masks import extend_mask
from vsf.text.embeddings import NegativeRows


class PerBlock(Family):
    """A family whose blocks get the negatives behind their own tokens."""

    text_mask = "encoder_attention_mask"
    blocks: ClassVar[tuple[str, ...]]
    """Names of the denoiser's lists of blocks, in the order in which they run."""

    @abstractmethod
    def spans(self, denoiser: Denoiser, arguments: CallArguments) -> Iterable[tuple[Span, ...]]:
        """Return the spans of the text that the blocks get, without negatives: once for all rows, or for each row."""

    @abstractmethod
    def embed(
        self, denoiser: Denoiser, arguments: CallArguments, tokens: Tokens, real: Bool[Tensor, "batch tokens"]
    ) -> Tokens:
        """Project one negative per row into the block input space, using the denoiser's own text embedder.

        Args:
            denoiser: the model that is called.
            arguments: of the call.
            tokens: the negatives as the text encoder returned them, padded with zeros.
            real: which of the tokens are no padding, at least one in each row.
        """

    @abstractmethod
    def call_block(self, block: Callable[..., Any], stream: NegativeStream, *args: Any, **kwargs: Any) -> Any:
        """Call a block with the negatives behind its tokens, and split them off its output."""

    def rope(self, denoiser: Denoiser, tokens: int, device: torch.device) -> Shaped[Tensor, "1 tokens angles"] | None:
        """Return the rotary embedding of a negative of so many tokens, which starts where a prompt of its own would."""
        return None

    def inject(self, denoiser: Denoiser, arguments: CallArguments, negative: NegativeRows, layout: str) -> Injection:
        """Leave the arguments alone, and start a stream of negatives for the blocks."""
        spans = tuple((*text, *negative.spans) for text in self.spans(denoiser, arguments))
        valid = negative.valid(negative.embeddings.shape[1])
        stream = NegativeStream(partial(self._start, denoiser, arguments, negative))
        return Injection({**arguments}, spans, valid, negative.weights, stream)

    def overrides(self, denoiser: Denoiser, running: Running) -> Overrides:
        """Pass the negatives of the call in progress through every block."""

        def call(original: Original, block: object, *args: Any, **kwargs: Any) -> Any:
            injection = running()
            if injection is None or injection.stream is None:
                return original(block, *args, **kwargs)
            return self.call_block(partial(original, block), injection.stream, *args, **kwargs)

        blocks: list[object] = []
        for name in self.blocks:
            blocks += getattr(denoiser, name)
        return [(block, {"__call__": call}) for block in blocks]

    @property
    def negatives_enter(self) -> str:
        """The path of negatives to the attention layers, as the table of families words it."""
        return "beside the model, block by block"

    def _start(
        self, denoiser: Denoiser, arguments: CallArguments, negative: NegativeRows
    ) -> tuple[Tokens, Tensor | None]:
        """Embed the negatives, each on its own, and make their rotary embedding."""
        tokens = negative.embeddings
        real = negative.valid(tokens.shape[1])
        if real is None:
            real = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        embedded = []
        ropes = []
        for part, part_real in zip(tokens.split(negative.slots, 1), real.split(negative.slots, 1), strict=True):
            # A row without this negative shows its first token all the same, because attention to no token is NaN. What
            # the embedder makes of padding is set to zero for the same reason.
            shown = part_real | (torch.arange(part.shape[1], device=part.device) == 0)
            embedded.append(self.embed(denoiser, arguments, part, shown).masked_fill(~shown[..., None], 0))
            rope = self.rope(denoiser, part.shape[1], tokens.device)
            if rope is not None:
                ropes.append(rope)
        if not ropes:
            return torch.cat(embedded, 1), None
        return torch.cat(embedded, 1), torch.cat(ropes, 1).expand(len(tokens), -1, -1)


class PerBlockText(PerBlock):
    """Blocks with a stream of image tokens and one of text tokens, which stand behind the image in the attention.

    They are called as block(image, text, time embedding, mask, ...); the mask's last axis ends with the text's.
    """

    def call_block(self, block: Callable[..., Any], stream: NegativeStream, *args: Any, **kwargs: Any) -> Any:
        """Lengthen the text and its mask."""
        negative = stream.enter()
        added = negative.shape[1]
        image, text, time, *remaining = args
        mask = remaining.pop(0) if remaining else kwargs.pop("attention_mask", None)
        longer_text = torch.cat([text, negative], 1)
        image, text = block(image, longer_text, time, extend_mask(mask, added), *remaining, **kwargs)
        stream.tokens = text[:, -added:]
        return image, text[:, :-added]


class PerBlockStream(PerBlock):
    """Blocks with one stream of tokens, called as block(tokens, mask, rotary embedding, ...).

    Before them the caption alone goes through blocks of the same kind, the denoiser's `context_refiner`.
    """

    caption: ClassVar[str]
    """Name of the module that embeds the caption's tokens."""

    def embed(
        self, denoiser: Denoiser, arguments: CallArguments, tokens: Tokens, real: Bool[Tensor, "batch tokens"]
    ) -> Tokens:
        """Embed and refine the negative as a caption of its own."""
        refined: Tokens = denoiser.get_submodule(self.caption)(tokens)
        rope = self.rope(denoiser, tokens.shape[1], tokens.device)
        for block in denoiser.context_refiner:
            refined = block(refined, real, rope)
        return refined

    def call_block(self, block: Callable[..., Any], stream: NegativeStream, *args: Any, **kwargs: Any) -> Any:
        """Lengthen the stream of tokens, its mask and its rotary embedding."""
        negative = stream.enter()
        assert stream.rope is not None
        added = negative.shape[1]
        tokens, mask, rope, *remaining = args
        longer_rope = torch.cat([rope, stream.rope], 1)
        tokens = block(torch.cat([tokens, negative], 1), extend_mask(mask, added), longer_rope, *remaining, **kwargs)
        stream.tokens = tokens[:, -added:]
        return tokens[:, :-added]
