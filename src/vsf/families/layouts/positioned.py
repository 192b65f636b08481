"""Joint attention, text tokens first, in transformers that are given the position of every token."""

from typing import ClassVar

import torch

from vsf.controls.grid import Grid
from vsf.families.base.family import Family, Injection, Role
from vsf.families.base.host import CallArguments, Denoiser
from vsf.families.layouts.positions import token_ranks
from vsf.text.embeddings import NegativeRows


class FluxLike(Family):
    """FLUX.1 and the models of its shape.

    The token sequence is [negative | positive | image | reference images], in double and single blocks alike.
    """

    negatives_first = True
    roles: ClassVar[tuple[tuple[str, Role], ...]] = (
        (r"(single_)?transformer_blocks\.\d+\.attn", Role("joint", image="last")),
    )
    conditions: ClassVar[tuple[str, ...]] = ("encoder_hidden_states", "txt_ids")
    counting: ClassVar[tuple[int, ...]] = ()
    """Axes of a text token's position that count the tokens of its text; the others are 0."""

    def grid(self, denoiser: Denoiser, arguments: CallArguments) -> Grid:
        """Return the grid of the image tokens' positions: picture, row, column.

        Rows and columns may begin anywhere, so they are counted from the first token's. Reference images have another
        number in front.
        """
        ids = arguments["img_ids"]
        if ids.ndim == 3:
            ids = ids[0]
        picture = ids[:, :1]
        row_and_column = ids[:, 1:3]
        return Grid.of_positions(torch.cat([picture, row_and_column - row_and_column[0]], 1))

    def inject(self, denoiser: Denoiser, arguments: CallArguments, negative: NegativeRows, layout: str) -> Injection:
        """Put the negatives in front, with positions that start anew for each."""
        ids = arguments["txt_ids"]
        tokens = negative.embeddings.shape[1]
        negative_ids = ids.new_zeros(*ids.shape[:-2], tokens, ids.shape[-1])
        for axis in self.counting:
            negative_ids[..., axis] = token_ranks(negative.spans, ids.device)
        changed = {**arguments, "txt_ids": self.joined(ids, negative_ids, -2)}
        return super().inject(denoiser, changed, negative, layout)
