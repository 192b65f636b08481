"""Wan 2.1 and 2.2: image tokens attend to a text that is filled up with rows of zeros."""

from collections.abc import Mapping
from typing import Any, ClassVar

from vsf.controls.grid import Grid
from vsf.families.base.family import Encoded, Family, Overrides, Role, Running
from vsf.families.encoders.plain import characters_read, encode_plain
from vsf.families.layouts.late_concat import joined_late
from vsf.text.token_weights import Characters


class Wan(Family):
    """Wan 2.1 and 2.2, VACE and Animate included, with one denoiser or two, for the noisy steps and for the others.

    The keys are [positive | negative]. The pipeline fills the positive up to 512 tokens with zeros, which are attended.
    Layers that attend to an image too (2.1, image to video) get [image | text] and count 512 back from the end.
    """

    name = "wan"
    denoisers: ClassVar[tuple[str, ...]] = (
        "WanTransformer3DModel",
        "WanVACETransformer3DModel",
        "WanAnimateTransformer3DModel",
    )
    roles = ((r"(vace_)?blocks\.\d+\.attn2", Role("cross")),)

    def encode(self, pipe: Any, text: str) -> Encoded:
        """Rows of UMT5, without the zeros."""
        return encode_plain(pipe, text, max_sequence_length=512)

    def characters(self, pipe: Any, text: str) -> Characters:
        """UMT5's tokens, as many as there may be."""
        return characters_read(pipe, text, 512)

    def grid(self, denoiser: Any, arguments: Mapping[str, Any]) -> Grid:
        """The latents cut into patches."""
        sides = zip(arguments["hidden_states"].shape[-3:], denoiser.config.patch_size, strict=True)
        frames, height, width = (side // patch for side, patch in sides)
        return Grid(height, width, frames)

    def overrides(self, denoiser: Any, running: Running) -> Overrides:
        """Let the negatives join late where an image is attended too."""
        layers = [layer for layer, _ in self.attention_layers(denoiser).values()]
        return joined_late([layer for layer in layers if getattr(layer, "add_k_proj", None) is not None], running)
