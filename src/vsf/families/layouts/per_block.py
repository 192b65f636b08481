"""Families whose negatives travel beside the model, because they cannot stand in its text.

Their denoisers measure, pad, pool or reorder the text before it reaches the blocks. So the model is called as ever, and
each block gets the negatives behind its own tokens and gives them back. The image's positions, the pooled text, masks
and the residuals of a ControlNet stay those of the positive prompt alone.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from vsf.attention.layout import Span
from vsf.families.base.family import Family, Injection, Overrides, Running
from vsf.text.embeddings import NegativeRows

Tokens = Float[Tensor, "batch tokens channels"]


@dataclass(slots=True, eq=False)
class Travelling:
    """The negatives of one denoiser call on their way: what the block before made of them, and their positions.

    `start` makes both. It is called in the first block, when the weights of an offloaded model are where they compute.
    """

    start: Callable[[], tuple[Tokens, Tensor | None]]
    tokens: Tokens | None = None
    positions: Tensor | None = None

    def arrived(self) -> Tokens:
        """Return the tokens as the next block gets them."""
        if self.tokens is None:
            self.tokens, self.positions = self.start()
        return self.tokens


class Beside(Family):
    """A family whose blocks get the negatives behind their own tokens."""

    text_mask = "encoder_attention_mask"
    blocks: ClassVar[tuple[str, ...]]
    """Names of the denoiser's lists of blocks, in the order in which they run."""

    @abstractmethod
    def spans(self, denoiser: Any, arguments: Mapping[str, Any]) -> Iterable[tuple[Span, ...]]:
        """Return the spans of the text that the blocks get, without negatives: once for all rows, or for each row."""

    @abstractmethod
    def embed(
        self, denoiser: Any, arguments: Mapping[str, Any], tokens: Tokens, real: Bool[Tensor, "batch tokens"]
    ) -> Tokens:
        """Bring one negative of each row to where text enters the blocks, as the denoiser does with its own text.

        `real` has at least one True in each row.
        """

    @abstractmethod
    def carry(self, block: Callable[..., Any], travelling: Travelling, *args: Any, **kwargs: Any) -> Any:
        """Call a block with the negatives behind its tokens, and cut them off what it returns."""

    def positions(self, denoiser: Any, tokens: int, like: Tensor) -> Shaped[Tensor, "1 tokens angles"] | None:
        """Return the rotary embedding of a negative of so many tokens, which starts where a prompt of its own would."""
        del denoiser, tokens, like
        return None

    def inject(self, denoiser: Any, arguments: Mapping[str, Any], negative: NegativeRows, layout: str) -> Injection:
        """Leave the arguments alone, and send the negatives on their way."""
        del layout
        spans = tuple((*own, *negative.spans) for own in self.spans(denoiser, arguments))
        start = partial(self._start, denoiser, arguments, negative)
        valid = negative.valid(negative.embeddings.shape[1])
        return Injection({**arguments}, spans, valid, negative.weights, beside=Travelling(start))

    def overrides(self, denoiser: Any, running: Running) -> Overrides:
        """Let every block carry the negatives of the call in progress."""

        def call(original: Any, block: object, *args: Any, **kwargs: Any) -> Any:
            injection = running()
            if injection is None:
                return original(block, *args, **kwargs)
            return self.carry(partial(original, block), injection.beside, *args, **kwargs)

        return [(block, {"__call__": call}) for block in chain(*(getattr(denoiser, name) for name in self.blocks))]

    def _start(
        self, denoiser: Any, arguments: Mapping[str, Any], negative: NegativeRows
    ) -> tuple[Tokens, Tensor | None]:
        """Embed the negatives, each on its own; what fills them up becomes zero, for it may have come out as NaN."""
        tokens = negative.embeddings
        real = negative.valid(tokens.shape[1])
        if real is None:
            real = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        embedded, positions = [], []
        for piece, own in zip(tokens.split(negative.slots, 1), real.split(negative.slots, 1), strict=True):
            seen = own | (torch.arange(own.shape[1], device=own.device) == 0)
            embedded.append(self.embed(denoiser, arguments, piece, seen).masked_fill(~seen[..., None], 0))
            positions.append(self.positions(denoiser, piece.shape[1], tokens))
        known = [each for each in positions if each is not None]
        return torch.cat(embedded, 1), torch.cat(known, 1).expand(len(tokens), -1, -1) if known else None


class BesideText(Beside):
    """Blocks with a stream of image tokens and one of text tokens, which stand behind the image in the attention.

    They are called as block(image, text, time embedding, mask, ...); the mask's last axis ends with the text's.
    """

    def carry(self, block: Callable[..., Any], travelling: Travelling, *args: Any, **kwargs: Any) -> Any:
        """Lengthen the text and its mask."""
        negative = travelling.arrived()
        image, text, *others = args
        mask = kwargs.pop("attention_mask", None) if len(others) < 2 else others.pop(1)
        longer = None if mask is None else F.pad(mask, (0, negative.shape[1]), value=1)
        time, *others = others
        image, text = block(image, torch.cat([text, negative], 1), time, longer, *others, **kwargs)
        travelling.tokens = text[:, -negative.shape[1] :]
        return image, text[:, : -negative.shape[1]]


class BesideStream(Beside):
    """Blocks with one stream of tokens, called as block(tokens, mask, rotary embedding, ...).

    The caption alone goes through blocks of the same kind first, the denoiser's `context_refiner`.
    """

    caption: ClassVar[str]
    """Name of the module that embeds the caption's tokens."""

    def embed(
        self, denoiser: Any, arguments: Mapping[str, Any], tokens: Tokens, real: Bool[Tensor, "batch tokens"]
    ) -> Tokens:
        """Embed and refine the negative as a caption of its own."""
        del arguments
        refined: Tokens = denoiser.get_submodule(self.caption)(tokens)
        for block in denoiser.context_refiner:
            refined = block(refined, real, self.positions(denoiser, tokens.shape[1], tokens))
        return refined

    def carry(self, block: Callable[..., Any], travelling: Travelling, *args: Any, **kwargs: Any) -> Any:
        """Lengthen the stream, its mask and its rotary embedding."""
        negative, (stream, mask, positions, *others) = travelling.arrived(), args
        longer = None if mask is None else F.pad(mask, (0, negative.shape[1]), value=1)
        assert travelling.positions is not None
        places = torch.cat([positions, travelling.positions], 1)
        stream = block(torch.cat([stream, negative], 1), longer, places, *others, **kwargs)
        travelling.tokens = stream[:, -negative.shape[1] :]
        return stream[:, : -negative.shape[1]]
