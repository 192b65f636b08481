"""Denoisers, pipelines and weights that cannot be guided, and why."""

from collections.abc import Mapping
from types import MappingProxyType

from torch import nn

from vsf.errors import UnsupportedPipelineError

REFUSED: Mapping[str, str] = MappingProxyType(
    {
        "QwenImage21Transformer2DModel": "Qwen-Image-2.1 reads its text once, in the first step, token after token and "
        "with pictures between, and keeps its keys for the steps that follow",
    }
)
"""By the denoiser's class name."""

_THREE_ROWS = "it calls its U-Net on three rows for each picture, and two of them have no prompt"
_WITH_A_PICTURE = "it reads a prompt only together with a picture, so that a negative has no text of its own"
_OWN_PROCESSORS = "it sets attention processors of its own during a run"

PIPELINES: Mapping[str, str] = MappingProxyType(
    {
        "StableDiffusionInstructPix2PixPipeline": _THREE_ROWS,
        "StableDiffusionXLInstructPix2PixPipeline": _THREE_ROWS,
        "LEditsPPPipelineStableDiffusion": _OWN_PROCESSORS,
        "LEditsPPPipelineStableDiffusionXL": _OWN_PROCESSORS,
        "HunyuanVideoImageToVideoPipeline": f"{_WITH_A_PICTURE}; SkyReels, FramePack and HunyuanVideo-1.5 make videos "
        "from pictures too",
        "Kandinsky5I2IPipeline": f"{_WITH_A_PICTURE}; the other Kandinsky 5 pipelines read it alone",
        "LongCatImageEditPipeline": f"{_WITH_A_PICTURE}; LongCatImagePipeline reads it alone",
        "ZImageOmniPipeline": "its sequence has several texts with pictures between; use the other Z-Image pipelines",
    }
)
"""By the pipeline's class name, of those whose denoiser is guided in other pipelines."""


def refuse_shared_scales(denoiser: nn.Module) -> None:
    """Raise UnsupportedPipelineError where activations are quantised with one scale for all tokens.

    The scale would follow the largest number among image and negative alike, so that a negative changes the picture
    even where no attention sees it.
    """
    for name, part in denoiser.named_modules():
        activations = getattr(getattr(part, "weight", None), "act_quant_kwargs", None)
        in_torchao = type(getattr(activations, "granularity", None)).__name__ == "PerTensor"
        if in_torchao or type(part).__module__.startswith("torch.ao.nn.quantized.dynamic"):
            raise UnsupportedPipelineError(
                f"{name} quantises its activations with one scale for all tokens, through which the negatives would "
                "change the picture; quantise weights alone, or activations token by token (torchao: PerRow())"
            )
