"""The token layout of the VSF authors' code, in which a negative is also a part of the positive."""

import torch

from vsf.attention.layout import Span
from vsf.families.base.family import Injection
from vsf.families.base.host import CallArguments
from vsf.text.embeddings import NegativeRows


def inject_reference(arguments: CallArguments, text: str, negative: NegativeRows) -> Injection:
    """Append the negatives twice to the argument named `text`: [positive + negative | negative].

    Both copies stand before any padding, so that the copy counted as positive holds real tokens only; the padding of a
    row counts as negative and is marked as not valid.
    """
    positive = arguments[text]
    tokens = negative.embeddings.shape[1]
    copies = torch.zeros_like(negative.embeddings).repeat(1, 2, 1)
    spans = []
    for row, length in enumerate(negative.lengths):
        copies[row, : 2 * length] = negative.embeddings[row, :length].repeat(2, 1)
        spans.append((Span("positive", positive.shape[1] + length), Span("negative", 2 * tokens - length)))
    changed = {**arguments, text: torch.cat([positive, copies], 1)}
    return Injection(changed, tuple(spans), negative.valid(2 * tokens - min(negative.lengths)))
