"""ConsisID: CogVideoX with a face."""

from vsf.families.cogvideox import CogVideoX


class ConsisID(CogVideoX):
    """ConsisID. The face enters in layers of its own, which see no text."""

    name = "consisid"
    denoisers = ("ConsisIDTransformer3DModel",)
    pipelines = ("ConsisIDPipeline",)
