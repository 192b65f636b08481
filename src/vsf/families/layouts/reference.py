"""The token layout of the authors' code, in which a negative is also a part of the positive."""

from collections.abc import Mapping
from typing import Any

import torch

from vsf.attention.layout import Span
from vsf.families.base.family import Injection
from vsf.text.embeddings import NegativeRows


def inject_twice(arguments: Mapping[str, Any], text: str, negative: NegativeRows) -> Injection:
    """Append the negatives twice to the argument named `text`: [positive + negative | negative].

    The copies stand before any filling, so that the copy counted as positive holds real tokens only; the filling of a
    row counts as negative and is marked as not valid.
    """
    positive, tokens = arguments[text], negative.embeddings.shape[1]
    twice = torch.zeros_like(negative.embeddings).repeat(1, 2, 1)
    for row, length in enumerate(negative.lengths):
        twice[row, : 2 * length] = negative.embeddings[row, :length].repeat(2, 1)
    spans = tuple(
        (Span("positive", positive.shape[1] + length), Span("negative", 2 * tokens - length))
        for length in negative.lengths
    )
    changed = {**arguments, text: torch.cat([positive, twice], 1)}
    return Injection(changed, spans, negative.valid(2 * tokens - min(negative.lengths)))
