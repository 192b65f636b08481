"""What each family was run on. No checkpoint of full size is among it."""

from collections.abc import Mapping
from types import MappingProxyType

from vsf.families.base.family import Family
from vsf.families.layouts.per_block import Beside

SUPPORT: Mapping[str, str] = MappingProxyType(
    {
        "sd3": "StableDiffusion3 StableDiffusion3Img2Img StableDiffusion3Inpaint StableDiffusion3ControlNet "
        "StableDiffusion3ControlNetInpainting",
        "flux": "Flux FluxImg2Img FluxInpaint FluxFill FluxKontext FluxKontextInpaint FluxControl FluxControlImg2Img "
        "FluxControlInpaint FluxControlNet FluxControlNetImg2Img FluxControlNetInpaint",
        "flux2": "Flux2 Flux2Klein Flux2KleinInpaint",
        "qwen_image": "QwenImage QwenImageImg2Img QwenImageInpaint QwenImageControlNet QwenImageControlNetInpaint "
        "QwenImageEdit QwenImageEditPlus QwenImageEditInpaint QwenImageLayered",
        "chroma": "Chroma ChromaImg2Img ChromaInpaint",
        "auraflow": "AuraFlow",
        "cogvideox": "CogVideoX CogVideoXImageToVideo CogVideoXVideoToVideo CogVideoXFunControl",
        "cogview4": "CogView4 CogView4Control",
        "krea2": "Krea2",
        "wan": "Wan WanImageToVideo WanVideoToVideo WanVACE WanAnimate LucyEdit",
        "kolors": "Kolors KolorsImg2Img",
        "unet": "StableDiffusion StableDiffusionImg2Img StableDiffusionInpaint StableDiffusionControlNet "
        "StableDiffusionControlNetImg2Img StableDiffusionControlNetInpaint StableDiffusionAdapter "
        "StableDiffusionUpscale StableDiffusionLatentUpscale StableDiffusionDepth2Img StableUnCLIP "
        "StableUnCLIPImg2Img StableDiffusionXL StableDiffusionXLImg2Img StableDiffusionXLInpaint "
        "StableDiffusionXLControlNet StableDiffusionXLControlNetImg2Img StableDiffusionXLControlNetInpaint "
        "StableDiffusionXLControlNetUnion StableDiffusionXLControlNetUnionImg2Img "
        "StableDiffusionXLControlNetUnionInpaint StableDiffusionXLAdapter LatentConsistencyModel "
        "LatentConsistencyModelImg2Img AnimateDiff AnimateDiffSDXL AnimateDiffVideoToVideo AnimateDiffControlNet "
        "AnimateDiffVideoToVideoControlNet AnimateDiffSparseControlNet",
        "ltx": "LTX LTXImageToVideo LTXCondition LTXI2VLongMultiPrompt",
        "pixart": "PixArtAlpha PixArtSigma",
        "sana": "Sana SanaControlNet SanaSprint SanaSprintImg2Img",
        "kandinsky5": "Kandinsky5T2V Kandinsky5I2V Kandinsky5T2I",
        "ltx2": "LTX2 LTX2ImageToVideo LTX2Condition LTX2InContext LTX2HDR LTX2DFR LTX2DFRTemporalRefine",
        "z_image": "ZImage ZImageImg2Img ZImageInpaint ZImageControlNet ZImageControlNetInpaint",
        "lumina2": "Lumina2",
        "hunyuan_video": "HunyuanVideo HunyuanSkyreelsImageToVideo",
        "framepack": "HunyuanVideoFramepack",
        "hunyuan_video15": "HunyuanVideo15 HunyuanVideo15ImageToVideo",
        "hunyuan_image": "HunyuanImage HunyuanImageRefiner",
        "ovis": "OvisImage",
        "longcat": "LongCatImage",
        "bria": "Bria",
        "fibo": "BriaFibo BriaFiboEdit",
        "skyreels_v2": "SkyReelsV2 SkyReelsV2ImageToVideo SkyReelsV2DiffusionForcing "
        "SkyReelsV2DiffusionForcingImageToVideo SkyReelsV2DiffusionForcingVideoToVideo",
        "chronoedit": "ChronoEdit",
        "ernie": "ErnieImage",
        "hidream": "HiDreamImage",
        "sana_video": "SanaVideo SanaImageToVideo",
        "kandinsky6": "Kandinsky6TI2VA",
        "prx": "PRX PRXPixel",
    }
)
"""By family, the pipelines of diffusers that the tests run, without the "Pipeline" at the end of their names."""

SINCE: Mapping[str, str] = MappingProxyType(
    {"LTX2DFRPipeline": "0.41", "LTX2DFRTemporalRefinePipeline": "0.41", "Kandinsky6TI2VAPipeline": "0.42"}
)
"""By class name, those of them that the oldest diffusers allowed lacks, and the release that brought them."""

_TRAINED = {"sd3": "tiny random weights; the embedded models"}


def pipelines(family: str) -> tuple[str, ...]:
    """Return the class names of the pipelines that the tests run."""
    return tuple(f"{name}Pipeline" for name in SUPPORT[family].split())


def weights(family: str) -> str:
    """Tell which weights those pipelines had."""
    return _TRAINED.get(family, "tiny random weights")


def entrance(family: Family) -> str:
    """Tell how negatives come to the attention layers."""
    if isinstance(family, Beside):
        return "beside the model, block by block"
    joint = any(role.kind == "joint" for _, role in family.roles)
    return "in the text, which attends together with the image" if joint else "in the text that the image attends to"
