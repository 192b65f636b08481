"""SkyReels-V2: Wan 2.1, with a time for every frame where a video goes on without end."""

from vsf.controls.schedule import Axis
from vsf.errors import KnobError
from vsf.families.base.clip import told_length
from vsf.families.base.family import in_sections
from vsf.families.base.host import CallArguments, Denoiser, Pipeline
from vsf.families.base.steps import Timestep
from vsf.families.wan import Wan


class SkyReelsV2(Wan):
    """SkyReels-V2, from texts or pictures, with diffusion forcing or without."""

    name = "skyreels_v2"
    denoisers = ("SkyReelsV2Transformer3DModel",)
    pipelines = (
        "SkyReelsV2Pipeline",
        "SkyReelsV2ImageToVideoPipeline",
        "SkyReelsV2DiffusionForcingPipeline",
        "SkyReelsV2DiffusionForcingImageToVideoPipeline",
        "SkyReelsV2DiffusionForcingVideoToVideoPipeline",
    )

    clip_rate = 24
    in_sections = ("SkyReelsV2DiffusionForcingVideoToVideoPipeline",)

    def check_time(self, target: Pipeline | Denoiser, arguments: CallArguments) -> None:
        """Refuse clips so long that they are made piece by piece. Raises as `Family.check_time` does."""
        super().check_time(target, arguments)
        # Only a clip of more frames than the model makes at once has pieces that overlap.
        longest = arguments.get("base_num_frames", 97)
        length = told_length(target, arguments)
        if arguments.get("overlap_history") is not None and length is not None and length > longest:
            raise in_sections(type(target).__name__)

    def fraction_done(
        self, pipe: Pipeline, over: Axis, timestep: Timestep | None = None, first: Timestep | None = None
    ) -> float:
        """Raise KnobError under diffusion forcing, where frames are not equally far."""
        if "DiffusionForcing" in type(pipe).__name__:
            raise KnobError(
                f"{type(pipe).__name__} denoises some frames of a video before others, so that there is no step they "
                "share: leave out start, end and curve"
            )
        return super().fraction_done(pipe, over, timestep, first)
