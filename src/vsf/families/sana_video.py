"""Sana-Video: Sana with frames."""

from vsf.families.sana import Sana


class SanaVideo(Sana):
    """Sana-Video, from texts or pictures."""

    name = "sana_video"
    denoisers = ("SanaVideoTransformer3DModel",)
    clip_rate = 16
    pipelines = ("SanaVideoPipeline", "SanaImageToVideoPipeline")
