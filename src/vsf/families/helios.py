"""Helios: Wan 2.1, which makes a clip piece by piece and sees what it made before."""

from typing import ClassVar

from vsf.controls.grid import Grid
from vsf.controls.schedule import Axis
from vsf.errors import KnobError
from vsf.families.base.family import class_names
from vsf.families.base.host import CallArguments, Denoiser, Pipeline
from vsf.families.base.steps import Timestep
from vsf.families.wan import Wan


class Helios(Wan):
    """Helios, distilled or not, at one size or from small to large.

    The history of a piece stands before it in the attention among image tokens. Whether it attends to the text, too,
    is a setting of the model; those released leave it out.
    """

    name = "helios"
    denoisers = ("HeliosTransformer3DModel",)
    pipelines: ClassVar[tuple[str, ...]] = ("HeliosPipeline", "HeliosPyramidPipeline")
    clip_rate = 24
    in_sections = (*pipelines, "HeliosModularPipeline", *denoisers)

    def grid(self, denoiser: Denoiser, arguments: CallArguments) -> Grid:
        """Return the latents of the piece cut into patches.

        Raises:
            KnobError: its history attends to the text too, and would be taken for the piece.
        """
        has_history = arguments.get("latents_history_short") is not None
        if has_history and not denoiser.config.guidance_cross_attn:
            raise KnobError(
                'mask=, observe= and scale="auto" do not work with a Helios whose history attends to the text '
                "(guidance_cross_attn=False): leave them out"
            )
        return super().grid(denoiser, arguments)

    def fraction_done(
        self, pipe: Pipeline, over: Axis, timestep: Timestep | None = None, first: Timestep | None = None
    ) -> float:
        """Return the fraction of a piece's steps, or of its noise, that is done.

        Raises:
            KnobError: the pipeline goes from small to large, with steps that are counted anew at every size.
        """
        if any("Pyramid" in name for name in class_names(pipe)):
            raise KnobError(
                f"the steps of {class_names(pipe)[0]} are counted anew at every size, so that start, end and curve of "
                "a schedule cannot be followed: leave them out"
            )
        return super().fraction_done(pipe, over, timestep, first)
