"""ChronoEdit: Wan 2.1, for a picture and what it becomes."""

from vsf.families.wan import Wan


class ChronoEdit(Wan):
    """ChronoEdit."""

    name = "chronoedit"
    denoisers = ("ChronoEditTransformer3DModel",)
    pipelines = ("ChronoEditPipeline",)
