"""LTX-Video: image tokens attend to T5's text, whose padding is masked."""

from collections.abc import Mapping
from typing import Any

from vsf.controls.grid import Grid
from vsf.families.base.family import Encoded
from vsf.families.encoders.plain import characters_read
from vsf.families.layouts.masked import MaskedText, encode_masked
from vsf.text.embeddings import TokenizeUnpadded
from vsf.text.token_weights import Characters


class LtxVideo(MaskedText):
    """LTX-Video, in every pipeline of diffusers that uses its transformer. T5 itself runs without a mask."""

    name = "ltx"
    denoisers = ("LTXVideoTransformer3DModel",)
    encoder_sees_padding = True

    def encode(self, pipe: Any, text: str) -> Encoded:
        """Rows of T5."""
        return encode_masked(pipe, text, TokenizeUnpadded(), do_classifier_free_guidance=False)

    def characters(self, pipe: Any, text: str) -> Characters:
        """T5's tokens, as many as there may be."""
        return characters_read(pipe, text, 512)

    def grid(self, denoiser: Any, arguments: Mapping[str, Any]) -> Grid:
        """Told by the pipeline as a size, or as (batch, axes, tokens): time, row and column of each token.

        Frames given as conditions have tokens of their own and count as frames.
        """
        del denoiser
        coordinates = arguments.get("video_coords")
        if coordinates is None:
            return Grid(arguments["height"], arguments["width"], arguments["num_frames"])
        height, width = (len(axis.unique()) for axis in coordinates[0, 1:])
        return Grid(height, width, coordinates.shape[2] // (height * width))
