"""Joint attention, text tokens first, in transformers that are told the position of every token."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from vsf.controls.grid import Grid
from vsf.families.base.family import Family, Injection, Role
from vsf.text.embeddings import NegativeRows


class Placed(Family):
    """FLUX.1 and those that are shaped like it.

    The token sequence is [negative | positive | image | reference images], in double and single blocks alike.
    """

    negatives_first = True
    roles: ClassVar[tuple[tuple[str, Role], ...]] = (
        (r"(single_)?transformer_blocks\.\d+\.attn", Role("joint", image="last")),
    )
    conditions: ClassVar[tuple[str, ...]] = ("encoder_hidden_states", "txt_ids")
    counting: ClassVar[tuple[int, ...]] = ()
    """Axes of a text token's position that count the tokens of its text; the others are 0."""

    def grid(self, denoiser: Any, arguments: Mapping[str, Any]) -> Grid:
        """The image tokens' positions: picture, row, column, the last two counted from the first token's.

        Reference images have another number in front.
        """
        ids = arguments["img_ids"]
        ids = (ids if ids.ndim == 2 else ids[0])[:, :3]
        return Grid.of_positions(torch.cat([ids[:, :1], ids[:, 1:] - ids[0, 1:]], 1))

    def inject(self, denoiser: Any, arguments: Mapping[str, Any], negative: NegativeRows, layout: str) -> Injection:
        """Put the negatives in front, with positions that start anew for each."""
        ids = arguments["txt_ids"]
        own = ids.new_zeros(*ids.shape[:-2], negative.embeddings.shape[1], ids.shape[-1])
        ranks = torch.cat([torch.arange(span.length, device=ids.device) for span in negative.spans])
        for axis in self.counting:
            own[..., axis] = ranks
        return super().inject(denoiser, {**arguments, "txt_ids": self.joined(ids, own, -2)}, negative, layout)
