"""AnyFlow: Wan 2.1, distilled to steps of any length."""

from vsf.controls.grid import Grid
from vsf.families.base.host import CallArguments, Denoiser
from vsf.families.base.patches import patch_grid
from vsf.families.wan import Wan


class AnyFlow(Wan):
    """AnyFlow, which denoises all frames at once."""

    name = "anyflow"
    denoisers = ("AnyFlowTransformer3DModel",)
    pipelines = ("AnyFlowPipeline",)
    guidance = "batch"
    frames_first = True

    def grid(self, denoiser: Denoiser, arguments: CallArguments) -> Grid:
        """Return the latents (batch, frames, channels, height, width) cut into patches."""
        _, frames, _, height, width = arguments["hidden_states"].shape
        return patch_grid((frames, height, width), denoiser.config.patch_size)
