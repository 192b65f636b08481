"""The CLIP text encoders of a pipeline that puts their rows side by side."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from vsf.encode import Unpadded


class PairedClips:
    """Stand-ins for the calls of their tokenizers, which give all of them the longest of their lengths.

    The pipeline pairs rows of the same number, so that a shorter text has rows of its own padding, exactly those that
    the pipeline puts there itself. `swaps` is for `vsf.hooks.calls_swapped`.
    """

    def __init__(self, tokenizers: Sequence[Any], text: str, limit: int | None = None) -> None:
        """Count the tokens of a text in each; `limit`: how many a pipeline takes, if the tokenizer does not say so."""
        length = max(len(each(text, truncation=True, max_length=limit).input_ids) for each in tokenizers)
        stand_ins = {id(each): (each, Unpadded(length)) for each in tokenizers}  # one may serve both encoders
        self.swaps = list(stand_ins.values())

    @property
    def special(self) -> Bool[Tensor, "batch tokens"]:
        """After the calls: which tokens are begin, end or padding in each of them."""
        return torch.stack([stand_in.special for _, stand_in in self.swaps]).all(0)
