"""Denoisers, pipelines and quantised weights that cannot be guided, with the reasons."""

from collections.abc import Mapping
from types import MappingProxyType

from torch import nn

from vsf.errors import UnsupportedPipelineError

UNSUPPORTED_DENOISERS: Mapping[str, str] = MappingProxyType(
    {
        "BriaFibo2Transformer2DModel": "Bria FIBO 2 presses its text into a fixed number of tokens before the image "
        "sees it, among which a negative has none",
        "Kandinsky6SRTransformer3DModel": "the upscaler of Kandinsky 6 takes no prompt",
        "UNetControlNetXSModel": "ControlNet-XS reads the text in the U-Net and in the control at once, and is "
        "deprecated in diffusers; use ControlNet",
    }
)
"""Reasons, by the denoiser's class name."""

_THREE_ROWS = "it calls its U-Net on three rows for each picture, and two of them have no prompt"
_WITH_A_PICTURE = "it reads a prompt only together with a picture, so that a negative has no text of its own"
_IN_PARTS = "its prompt is three texts about a grid of pictures, and a negative is one; use FluxFillPipeline"
_OWN_PROCESSORS = "it sets attention processors of its own during a run"
_NO_PROMPT = "it takes no prompt"
_ONE_LAYER = (
    "its image tokens attend to the text and to each other in one layer, in which the text has no rows of its own"
)
_NO_WORDS = "its U-Net gets the prompt as the embedding of a picture, in which no words are left"
_DEPRECATED = "it is deprecated in diffusers, and was never run guided"
_PERTURBED = "it swaps its attention processors during a run; use the pipeline without perturbed attention"

_SHARED_REASONS: Mapping[str, str] = {
    _ONE_LAYER: "IF IFImg2Img IFInpainting IFSuperResolution IFImg2ImgSuperResolution IFInpaintingSuperResolution "
    "Kandinsky KandinskyImg2Img KandinskyInpaint KandinskyCombined KandinskyImg2ImgCombined KandinskyInpaintCombined",
    _NO_WORDS: "KandinskyV22 KandinskyV22Img2Img KandinskyV22Inpaint KandinskyV22Controlnet "
    "KandinskyV22ControlnetImg2Img KandinskyV22Combined KandinskyV22Img2ImgCombined KandinskyV22InpaintCombined",
    _NO_PROMPT: "MarigoldDepth MarigoldIntrinsics MarigoldNormals StableDiffusionImageVariation",
    _THREE_ROWS: "StableDiffusionInstructPix2Pix StableDiffusionXLInstructPix2Pix",
    _IN_PARTS: "VisualCloze VisualClozeGeneration",
}
"""Pipelines by the reason they share, without the "Pipeline" at the end of their names."""


def _reasons_by_pipeline() -> dict[str, str]:
    reasons = {
        "BlipDiffusionControlNetPipeline": _WITH_A_PICTURE,
        "LEditsPPPipelineStableDiffusion": _OWN_PROCESSORS,
        "LEditsPPPipelineStableDiffusionXL": _OWN_PROCESSORS,
        "HunyuanVideoImageToVideoPipeline": f"{_WITH_A_PICTURE}; SkyReels, FramePack and HunyuanVideo-1.5 make videos "
        "from pictures too",
        "Kandinsky5I2IPipeline": f"{_WITH_A_PICTURE}; the other Kandinsky 5 pipelines read it alone",
        "LDMTextToImagePipeline": "it has no function that reads a prompt, with which a negative could be read too",
        "LongCatImageEditPipeline": f"{_WITH_A_PICTURE}; LongCatImagePipeline reads it alone",
        "ZImageOmniPipeline": "its sequence has several texts with pictures between; use the other Z-Image pipelines",
    }
    for reason, names in _SHARED_REASONS.items():
        for name in names.split():
            reasons[f"{name}Pipeline"] = reason
    return reasons


UNSUPPORTED_PIPELINES: Mapping[str, str] = MappingProxyType(_reasons_by_pipeline())
"""Reasons, by class name, for pipelines whose denoiser can be guided in other pipelines."""


def unsupported_reason(pipeline: type) -> str | None:
    """Return why pipelines of a class cannot be guided although their denoiser can; None when they can."""
    for cls in pipeline.__mro__:
        if cls.__name__ in UNSUPPORTED_PIPELINES:
            return UNSUPPORTED_PIPELINES[cls.__name__]
    if any(".pipelines.deprecated." in cls.__module__ for cls in pipeline.__mro__):
        return _DEPRECATED
    return _PERTURBED if hasattr(pipeline, "do_perturbed_attention_guidance") else None


def check_activation_scales(denoiser: nn.Module) -> None:
    """Raise UnsupportedPipelineError where activations are quantised with one scale for all tokens.

    The scale would follow the largest number among image and negative alike, so that a negative would change the
    picture even where no attention sees it.
    """
    for name, part in denoiser.named_modules():
        activations = getattr(getattr(part, "weight", None), "act_quant_kwargs", None)
        in_torchao = type(getattr(activations, "granularity", None)).__name__ == "PerTensor"
        if in_torchao or type(part).__module__.startswith("torch.ao.nn.quantized.dynamic"):
            raise UnsupportedPipelineError(
                f"{name} quantises its activations with one scale for all tokens, through which the negatives would "
                "change the picture; quantise weights alone, or activations token by token (torchao: PerRow())"
            )
