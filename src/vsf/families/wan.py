"""Wan 2.1 and 2.2: image tokens attend to a text that is padded with rows of zeros."""

from typing import ClassVar

from vsf.controls.clock import causal_frames
from vsf.families.base.clip import frames_per_latent, told_length
from vsf.families.base.family import Encoded, Family, Overrides, Role, Running
from vsf.families.base.host import CallArguments, Denoiser, Pipeline
from vsf.families.encoders.plain import char_offsets, encode_plain
from vsf.families.layouts.late_concat import append_at_kv
from vsf.text.token_weights import Characters


class Wan(Family):
    """Wan 2.1 and 2.2, VACE and Animate included, with one denoiser or two, for the noisy steps and for the others.

    The keys are [positive | negative]. The pipeline pads the positive to 512 tokens with zeros, which are attended.
    Layers that attend to an image too (2.1, image to video) get [image | text] and count 512 back from the end.
    """

    name = "wan"
    denoisers: ClassVar[tuple[str, ...]] = (
        "WanTransformer3DModel",
        "WanVACETransformer3DModel",
        "WanAnimateTransformer3DModel",
    )
    pipelines: ClassVar[tuple[str, ...]] = (
        "WanPipeline",
        "WanImageToVideoPipeline",
        "WanVideoToVideoPipeline",
        "WanVACEPipeline",
        "WanAnimatePipeline",
        "LucyEditPipeline",
    )
    roles = ((r"(vace_)?blocks\.\d+\.attn2", Role("cross")),)
    keeps_text_whole = True
    clip_rate = 16
    in_sections: ClassVar[tuple[str, ...]] = ("WanAnimatePipeline", "WanAnimateTransformer3DModel")

    def encode(self, pipe: Pipeline, text: str) -> Encoded:
        """Return the rows of UMT5, without the zeros."""
        return encode_plain(pipe, text, max_sequence_length=512)

    def characters(self, pipe: Pipeline, text: str) -> Characters:
        """Return the characters of UMT5's tokens, at the full length of 512."""
        return char_offsets(pipe, text, 512)

    def clip_frames(
        self, denoiser: Denoiser, pipe: Pipeline | None, arguments: CallArguments, frames: int
    ) -> tuple[int, ...]:
        """Leave out VACE's reference pictures, which stand before the clip as frames of their own."""
        ratio = frames_per_latent(pipe) or self.clip_ratio
        length = told_length(pipe, arguments)
        references = 0
        if length is not None and "VACE" in type(denoiser).__name__:
            references = frames - (length // ratio + 1)
        return causal_frames(frames, ratio, before=references)

    def overrides(self, denoiser: Denoiser, running: Running) -> Overrides:
        """Append the negatives at keys and values in layers that attend to an image too."""
        layers = [layer for layer, _ in self.attention_layers(denoiser).values()]
        # Only layers that attend to an image have a projection for its keys.
        with_image = [layer for layer in layers if getattr(layer, "add_k_proj", None) is not None]
        return append_at_kv(with_image, running)
