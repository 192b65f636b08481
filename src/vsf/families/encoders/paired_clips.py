"""The CLIP text encoders of a pipeline that puts their rows side by side."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vsf.text.embeddings import TokenizePadded


class PairedClips:
    """Stand-ins for the calls of their tokenizers, which tell afterwards how many rows are real.

    How many tokens a text has is known only when the pipeline calls its tokenizers: by then a textual inversion of
    several vectors stands there as several tokens. The pipeline pairs rows of the same number, so that a shorter text
    has rows of its own padding, exactly those that the pipeline puts there itself. `swaps` is for
    `vsf.patching.swaps.calls_swapped`.
    """

    def __init__(self, tokenizers: Sequence[Any]) -> None:
        stand_ins = {id(each): (each, TokenizePadded()) for each in tokenizers}  # one may serve both encoders
        self.swaps = list(stand_ins.values())

    @property
    def length(self) -> int:
        """After the calls: how many tokens the longest text has."""
        return max(stand_in.length for _, stand_in in self.swaps)

    @property
    def special(self) -> Bool[Tensor, " tokens"]:
        """After the calls: which of the real tokens are begin, end or padding in each of them."""
        return torch.stack([stand_in.special[0] for _, stand_in in self.swaps]).all(0)[: self.length]

    def without_padding(self, rows: Float[Tensor, "tokens channels"]) -> Float[Tensor, "tokens channels"]:
        """Cut the padding off a sequence that begins with the CLIPs' rows."""
        padded = max(stand_in.special.shape[1] for _, stand_in in self.swaps)
        return torch.cat([rows[: self.length], rows[padded:]])
