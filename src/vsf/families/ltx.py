"""LTX-Video: image tokens attend to T5's text, whose padding is masked."""

from vsf.controls.clock import causal_frames
from vsf.controls.grid import Grid
from vsf.families.base.clip import frames_per_latent, told_length
from vsf.families.base.family import Encoded
from vsf.families.base.host import CallArguments, Denoiser, Pipeline
from vsf.families.encoders.plain import char_offsets, encode_masked
from vsf.families.layouts.masked_text import MaskedText
from vsf.text.token_weights import Characters


class LtxVideo(MaskedText):
    """LTX-Video, in every pipeline of diffusers that uses its transformer. T5 itself runs without a mask."""

    name = "ltx"
    denoisers = ("LTXVideoTransformer3DModel",)
    pipelines = (
        "LTXPipeline",
        "LTXImageToVideoPipeline",
        "LTXConditionPipeline",
        "LTXI2VLongMultiPromptPipeline",
    )
    encoder_sees_padding = True
    clip_rate = 25
    clip_ratio = 8
    in_sections = ("LTXI2VLongMultiPromptPipeline",)

    def encode(self, pipe: Pipeline, text: str) -> Encoded:
        """Return the rows of T5."""
        return encode_masked(pipe, text, do_classifier_free_guidance=False)

    def characters(self, pipe: Pipeline, text: str) -> Characters:
        """Return the characters of T5's tokens, at the full length of 512."""
        return char_offsets(pipe, text, 512)

    def grid(self, denoiser: Denoiser, arguments: CallArguments) -> Grid:
        """Return the grid of the sizes that the pipeline names, or of its coordinates (batch, axes, tokens).

        The axes are time, row and column. Frames given as conditions have tokens of their own and count as frames.
        """
        coordinates = arguments.get("video_coords")
        if coordinates is None:
            return Grid(arguments["height"], arguments["width"], arguments["num_frames"])
        height, width = (len(axis.unique()) for axis in coordinates[0, 1:])
        return Grid(height, width, coordinates.shape[2] // (height * width))

    def clip_frames(
        self, denoiser: Denoiser, pipe: Pipeline | None, arguments: CallArguments, frames: int
    ) -> tuple[int, ...]:
        """Leave out frames given as conditions, whose tokens stand before the clip."""
        length = told_length(pipe, arguments)
        ratio = frames_per_latent(pipe) or self.clip_ratio
        conditions = 0 if length is None else max(0, frames - ((length - 1) // ratio + 1))
        return causal_frames(frames, ratio, before=conditions)
