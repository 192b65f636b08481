"""Negatives of which there are keys alone: text that never sees the picture has the same ones in every step."""

from collections.abc import Callable, Mapping
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor

from vsf.hosting.call import KeysAndValues
from vsf.text.embeddings import NegativeRows

KeysOfLayers = Mapping[str, KeysAndValues]
"""Keys and values in every attention layer, by its name."""

Read = Callable[[Float[Tensor, "batch tokens channels"]], KeysOfLayers]
"""read(text) lets the model read one text as a prompt of its own, and returns its keys."""


class StaticKeys:
    """Keeps the keys of negatives as long as the model keeps those of its prompt."""

    def __init__(self) -> None:
        self._made: WeakKeyDictionary[object, tuple[NegativeRows, KeysOfLayers]] = WeakKeyDictionary()

    def of(self, negative: NegativeRows, read: Read, *, kept: object = None, anew: bool) -> KeysOfLayers:
        """Return the keys of the negatives.

        Args:
            negative: of every batch row.
            read: reads one of them.
            kept: holds the keys of the prompt from step to step; None where the model keeps none.
            anew: whether the model makes those in this call.
        """
        if not anew and kept in self._made:
            made_of, keys = self._made[kept]
            if made_of is negative:
                return keys
        keys = read_each(negative, read)
        if kept is not None:
            self._made[kept] = negative, keys
        return keys


def read_each(negative: NegativeRows, read: Read) -> KeysOfLayers:
    """Let every negative be read alone, so that none sees another and each begins at the first position."""
    lengths = [span.length for span in negative.spans]
    readings = [read(text) for text in negative.embeddings.split(lengths, 1)]
    keys = {}
    for layer in readings[0]:
        pairs = [reading[layer] for reading in readings]
        key = torch.cat([key for key, _ in pairs], 2)
        value = torch.cat([value for _, value in pairs], 2)
        keys[layer] = key, value
    return keys
