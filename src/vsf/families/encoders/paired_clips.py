"""The CLIP text encoders of a pipeline that puts their rows side by side."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vsf.families.base.host import Tokenizer
from vsf.text.embeddings import TokenizePadded


class PairedClips:
    """Overrides of the calls of their tokenizers, which record how many rows are real.

    The number of tokens of a text is known only when the pipeline calls its tokenizers: by then a textual inversion of
    several vectors stands there as several tokens. The pipeline pairs rows of the same index, so that a shorter text
    has rows of its own padding, exactly those that the pipeline puts there itself. `swaps` is for
    `vsf.patching.swaps.calls_swapped`.
    """

    def __init__(self, tokenizers: Sequence[Tokenizer]) -> None:
        # By identity, because one tokenizer may serve both encoders.
        by_id = {id(tokenizer): (tokenizer, TokenizePadded()) for tokenizer in tokenizers}
        self.swaps = list(by_id.values())

    @property
    def length(self) -> int:
        """The number of tokens of the longest text; known after the calls."""
        return max(padded.length for _, padded in self.swaps)

    @property
    def special(self) -> Bool[Tensor, " tokens"]:
        """The real tokens that are begin, end or padding in every text; known after the calls."""
        return torch.stack([padded.special[0] for _, padded in self.swaps]).all(0)[: self.length]

    def without_padding(self, rows: Float[Tensor, "tokens channels"]) -> Float[Tensor, "real_tokens channels"]:
        """Cut the padding out of a sequence that begins with the CLIPs' rows."""
        padded_length = max(padded.special.shape[1] for _, padded in self.swaps)
        return torch.cat([rows[: self.length], rows[padded_length:]])
