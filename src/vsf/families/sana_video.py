"""Sana-Video: Sana with frames."""

from collections.abc import Mapping
from typing import Any

from vsf.controls.grid import Grid
from vsf.families.sana import Sana


class SanaVideo(Sana):
    """Sana-Video, from texts or pictures."""

    name = "sana_video"
    denoisers = ("SanaVideoTransformer3DModel",)

    def grid(self, denoiser: Any, arguments: Mapping[str, Any]) -> Grid:
        """The latents cut into patches."""
        sides = zip(arguments["hidden_states"].shape[-3:], denoiser.config.patch_size, strict=True)
        frames, height, width = (side // patch for side, patch in sides)
        return Grid(height, width, frames)
