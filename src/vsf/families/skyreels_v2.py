"""SkyReels-V2: Wan 2.1, with a time for every frame where a video goes on without end."""

from typing import Any

from vsf.controls.schedule import Axis
from vsf.errors import KnobError
from vsf.families.wan import Wan


class SkyReelsV2(Wan):
    """SkyReels-V2, from texts or pictures, with diffusion forcing or without."""

    name = "skyreels_v2"
    denoisers = ("SkyReelsV2Transformer3DModel",)

    def fraction_done(self, pipe: Any, over: Axis, timestep: Any = None, first: Any = None) -> float:
        """Raise KnobError under diffusion forcing, where frames are not equally far."""
        if "DiffusionForcing" in type(pipe).__name__:
            raise KnobError(
                f"{type(pipe).__name__} denoises some frames of a video before others, so that there is no step they "
                "share: leave out start, end and curve"
            )
        return super().fraction_done(pipe, over, timestep, first)
