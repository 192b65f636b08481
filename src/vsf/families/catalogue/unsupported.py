"""Denoisers, pipelines and quantised weights that cannot be guided, with the reasons."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from torch import nn

from vsf.errors import UnsupportedPipelineError

_NOT_YET = "no family covers its model yet; docs/how-to/add-a-family.md says how to add one"
_NOT_STUDIED = "its model was not studied yet, so that nobody knows whether it can be guided"

_DENOISERS_BY_REASON: Mapping[str, str] = {
    _NOT_YET: "Cosmos3OmniTransformer LatteTransformer3DModel "
    "NucleusMoEImageTransformer2DModel SanaWMTransformer3DModel SanaWMLTX2RefinerTransformer3DModel "
    "StableAudio3DiTModel WanAnimate2Transformer3DModel",
    _NOT_STUDIED: "AudioLDM2UNet2DConditionModel LongCatAudioDiTTransformer MiniMaxMusic3Transformer1DModel "
    "StableAudioDiTModel StableCascadeUNet",
}
"""Class names of denoisers by the reason they share."""


def _reasons_by_denoiser() -> dict[str, str]:
    reasons = {
        "BriaFibo2Transformer2DModel": "the image tokens of Bria FIBO 2 attend to a few tokens that its text is "
        "pressed into and, in some layers, to the text itself; a negative would have to be in both, and the tokens of "
        "a guided call are laid out alike in all layers",
        "AnyFlowFARTransformer3DModel": "AnyFlow's FAR makes a clip piece by piece and keeps keys of what it made, in "
        "which guidance was not studied; use AnyFlowPipeline",
        "GlmImageTransformer2DModel": "GLM-Image reads only the words in quotes of a prompt; a language model turns "
        "the rest into a rough picture beforehand",
        "Kandinsky3UNet": "the time embedding of Kandinsky 3 is made from the text, so that a negative would change "
        "the positive prompt",
        "Kandinsky6SRTransformer3DModel": "the upscaler of Kandinsky 6 takes no prompt",
        "MochiTransformer3DModel": "Mochi attends row by row without the padding of each, and its calls do not tell "
        "which row they are for",
        "OmniGenTransformer2DModel": "OmniGen reads its prompt as the token numbers of a language model, with pictures "
        "between, in one sequence with the image",
        "PriorTransformer": "it makes an embedding from a prompt, with which another model draws",
        "UNetControlNetXSModel": "ControlNet-XS reads the text in the U-Net and in the control at once, and is "
        "deprecated in diffusers; use ControlNet",
    }
    for reason, names in _DENOISERS_BY_REASON.items():
        reasons.update(dict.fromkeys(names.split(), reason))
    return reasons


UNSUPPORTED_DENOISERS: Mapping[str, str] = MappingProxyType(_reasons_by_denoiser())
"""Reasons, by the denoiser's class name."""

_THREE_ROWS = "it calls its U-Net on three rows for each picture, and two of them have no prompt"
_WITH_A_PICTURE = "it reads a prompt only together with a picture, so that a negative has no text of its own"
_WRITES = "it writes text, and draws nothing"
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
    _WRITES: "DiffusionGemma LLaDA2",
}
"""Pipelines by the reason they share, without the "Pipeline" at the end of their names."""


def _reasons_by_pipeline() -> dict[str, str]:
    reasons = {
        "BlipDiffusionControlNetPipeline": _WITH_A_PICTURE,
        "LEditsPPPipelineStableDiffusion": _OWN_PROCESSORS,
        "LEditsPPPipelineStableDiffusionXL": _OWN_PROCESSORS,
        "EasyAnimateControlPipeline": "in diffusers 0.42 it cannot run at all: it asks its own encode_prompt for a "
        "text_encoder_index, which that does not have",
        "EchoModularPipeline": _NOT_STUDIED,
        "FluxPriorReduxPipeline": "it makes embeddings for FluxPipeline, which can be guided, and draws nothing",
        "HunyuanVideoImageToVideoPipeline": f"{_WITH_A_PICTURE}; SkyReels, FramePack and HunyuanVideo-1.5 make videos "
        "from pictures too",
        "Kandinsky5I2IPipeline": f"{_WITH_A_PICTURE}; the other Kandinsky 5 pipelines read it alone",
        "LDMTextToImagePipeline": "it has no function that reads a prompt, with which a negative could be read too",
        "LongCatImageEditPipeline": f"{_WITH_A_PICTURE}; LongCatImagePipeline reads it alone",
        "MotifVideoImage2VideoPipeline": "tokens of its picture stand in front of the text, which one kind of layer "
        "sees and another does not; MotifVideoPipeline makes videos from texts",
        "ZImageOmniPipeline": "its sequence has several texts with pictures between; use the other Z-Image pipelines",
    }
    for reason, names in _SHARED_REASONS.items():
        for name in names.split():
            reasons[f"{name}Pipeline"] = reason
    return reasons


UNSUPPORTED_PIPELINES: Mapping[str, str] = MappingProxyType(_reasons_by_pipeline())
"""Reasons, by class name, for pipelines that cannot be guided although their denoiser can, or that have none."""


def unsupported_reason(pipeline: type) -> str | None:
    """Return why pipelines of a class cannot be guided, whatever their denoiser; None where no reason is known."""
    for cls in pipeline.__mro__:
        if cls.__name__ in UNSUPPORTED_PIPELINES:
            return UNSUPPORTED_PIPELINES[cls.__name__]
    if any(".pipelines.deprecated." in cls.__module__ for cls in pipeline.__mro__):
        return _DEPRECATED
    return _PERTURBED if hasattr(pipeline, "do_perturbed_attention_guidance") else None


def refusal(pipeline: type, denoisers: Iterable[str]) -> str | None:
    """Return why no family guides a pipeline of a class with denoisers of these classes; None where it is not known."""
    reasons = (UNSUPPORTED_DENOISERS.get(name) for name in denoisers)
    return unsupported_reason(pipeline) or next(filter(None, reasons), None)


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
