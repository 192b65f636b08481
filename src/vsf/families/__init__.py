"""Model families by name, and which of them a pipeline belongs to."""

from typing import Any

from torch import nn

from vsf.errors import UnsupportedPipelineError
from vsf.families.auraflow import AuraFlow
from vsf.families.base.family import Family, class_names
from vsf.families.bria import Bria
from vsf.families.catalogue.unsupported import REFUSED
from vsf.families.chroma import Chroma
from vsf.families.chronoedit import ChronoEdit
from vsf.families.cogvideox import CogVideoX
from vsf.families.cogview4 import CogView4
from vsf.families.ernie import Ernie
from vsf.families.fibo import Fibo
from vsf.families.flux import Flux
from vsf.families.flux2 import Flux2
from vsf.families.framepack import FramePack
from vsf.families.hidream import HiDream
from vsf.families.hunyuan_image import HunyuanImage
from vsf.families.hunyuan_video import HunyuanVideo
from vsf.families.hunyuan_video15 import HunyuanVideo15
from vsf.families.kandinsky5 import Kandinsky5
from vsf.families.kandinsky6 import Kandinsky6
from vsf.families.kolors import Kolors
from vsf.families.krea2 import Krea2
from vsf.families.longcat import LongCat
from vsf.families.ltx import LtxVideo
from vsf.families.ltx2 import Ltx2
from vsf.families.lumina2 import Lumina2
from vsf.families.ovis import Ovis
from vsf.families.pixart import PixArt
from vsf.families.prx import Prx
from vsf.families.qwen_image import QwenImage
from vsf.families.sana import Sana
from vsf.families.sana_video import SanaVideo
from vsf.families.sd3 import StableDiffusion3
from vsf.families.skyreels_v2 import SkyReelsV2
from vsf.families.unet import UNet
from vsf.families.wan import Wan
from vsf.families.zimage import ZImage
from vsf.registry import Registry

FAMILIES: Registry[Family] = Registry(
    "family",
    {
        "sd3": StableDiffusion3(),
        "flux": Flux(),
        "flux2": Flux2(),
        "qwen_image": QwenImage(),
        "chroma": Chroma(),
        "auraflow": AuraFlow(),
        "cogvideox": CogVideoX(),
        "cogview4": CogView4(),
        "krea2": Krea2(),
        "wan": Wan(),
        "kolors": Kolors(),
        "unet": UNet(),
        "ltx": LtxVideo(),
        "pixart": PixArt(),
        "sana": Sana(),
        "kandinsky5": Kandinsky5(),
        "ltx2": Ltx2(),
        "z_image": ZImage(),
        "lumina2": Lumina2(),
        "hunyuan_video": HunyuanVideo(),
        "framepack": FramePack(),
        "hunyuan_video15": HunyuanVideo15(),
        "hunyuan_image": HunyuanImage(),
        "ovis": Ovis(),
        "longcat": LongCat(),
        "bria": Bria(),
        "fibo": Fibo(),
        "skyreels_v2": SkyReelsV2(),
        "chronoedit": ChronoEdit(),
        "ernie": Ernie(),
        "hidream": HiDream(),
        "sana_video": SanaVideo(),
        "kandinsky6": Kandinsky6(),
        "prx": Prx(),
    },
)


def find_family(target: Any) -> Family:
    """Return the family of a diffusers pipeline, or of a denoiser on its own. Raises UnsupportedPipelineError."""
    for family in FAMILIES.values():
        if family.denoisers_of(target):
            return family
    for name in _denoisers(target):
        if name in REFUSED:
            raise UnsupportedPipelineError(f"{class_names(target)[0]} cannot be guided: {REFUSED[name]}")
    if around := _wrapper(target):
        raise UnsupportedPipelineError(around)
    raise UnsupportedPipelineError(
        f'no family recognises {_described(target)}. Supported: {", ".join(FAMILIES)}. Run "vsf doctor" for details.'
    )


def _wrapper(target: Any) -> str | None:
    """Say which part of a pipeline is not a denoiser but has one inside, as a PeftModel has."""
    parts = {"model": target} if isinstance(target, nn.Module) else getattr(target, "components", {})
    known = {name for family in FAMILIES.values() for name in family.denoisers}
    for name, part in parts.items():
        modules = part.modules() if isinstance(part, nn.Module) else ()
        for inner in modules:
            if known & set(class_names(inner)):
                return (
                    f"{name} is a {class_names(part)[0]} around a {class_names(inner)[0]}, which has to be there "
                    f"itself: unwrap it first (of a PeftModel, {name}.get_base_model() keeps the adapter's layers)"
                )
    return None


def _denoisers(target: Any) -> list[str]:
    """Name the classes of a pipeline's parts, or of the denoiser itself."""
    parts = [target] if isinstance(target, nn.Module) else getattr(target, "components", {}).values()
    return [name for part in parts for name in class_names(part)]


def _described(target: Any) -> str:
    """Name a pipeline by its class and those of its denoisers."""
    components = getattr(target, "components", {})
    models = [f"{name} {class_names(part)[0]}" for name, part in components.items() if isinstance(part, nn.Module)]
    denoisers = [model for model in models if model.startswith(("transformer", "unet", "prior"))]
    title = class_names(target)[0]
    return f"{title} ({', '.join(denoisers)})" if denoisers else title
