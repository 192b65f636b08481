"""Model families by name, and the family of a pipeline."""

from collections.abc import Iterator
from importlib import import_module
from typing import Any

from torch import nn

from vsf.errors import UnsupportedPipelineError
from vsf.families.base.family import Family, architecture_names, class_names
from vsf.families.base.host import Denoiser, Pipeline
from vsf.families.catalogue.unsupported import refusal
from vsf.registry import Registry

# By module and class, so that a new family costs one line here. The first family that recognises a pipeline gets it:
# Kolors, whose denoiser is a U-Net, comes before U-Nets, and Anima before Cosmos.
_CLASSES = (
    "sd3.StableDiffusion3",
    "flux.Flux",
    "flux2.Flux2",
    "flux3.Flux3",
    "ideogram4.Ideogram4",
    "qwen_image.QwenImage",
    "qwen_image21.QwenImage21",
    "chroma.Chroma",
    "auraflow.AuraFlow",
    "cogvideox.CogVideoX",
    "cogview4.CogView4",
    "krea2.Krea2",
    "wan.Wan",
    "anima.Anima",
    "cosmos.Cosmos",
    "kolors.Kolors",
    "unet.UNet",
    "ltx.LtxVideo",
    "pixart.PixArt",
    "sana.Sana",
    "kandinsky5.Kandinsky5",
    "ltx2.Ltx2",
    "zimage.ZImage",
    "lumina2.Lumina2",
    "hunyuan_video.HunyuanVideo",
    "framepack.FramePack",
    "hunyuan_video15.HunyuanVideo15",
    "hunyuan_image.HunyuanImage",
    "ovis.Ovis",
    "longcat.LongCat",
    "bria.Bria",
    "fibo.Fibo",
    "skyreels_v2.SkyReelsV2",
    "chronoedit.ChronoEdit",
    "ernie.Ernie",
    "hidream.HiDream",
    "sana_video.SanaVideo",
    "kandinsky6.Kandinsky6",
    "minimax_h3.MiniMaxH3",
    "prx.Prx",
    "allegro.Allegro",
    "consisid.ConsisID",
    "cogview3plus.CogView3Plus",
    "easyanimate.EasyAnimate",
    "lumina_next.LuminaNext",
    "anyflow.AnyFlow",
    "helios.Helios",
    "dreamlite.DreamLite",
    "joyimage.JoyImage",
    "joyimage_plus.JoyImagePlus",
    "hunyuan_dit.HunyuanDiT",
    "motif_video.MotifVideo",
    "ace_step.AceStep",
)


def _load() -> dict[str, Family]:
    """Make one instance of every family, by the name that it declares."""
    families = {}
    for path in _CLASSES:
        module, _, class_name = path.partition(".")
        family: Family = getattr(import_module(f"{__name__}.{module}"), class_name)()
        families[family.name] = family
    return families


FAMILIES: Registry[Family] = Registry("family", _load())


def find_family(target: Pipeline | Denoiser) -> Family:
    """Return the family of a diffusers pipeline, or of a denoiser on its own.

    Raises:
        UnsupportedPipelineError: no family recognises it; the message gives the reason where one is known.
    """
    for family in FAMILIES.values():
        if family.denoisers_of(target):
            return family
    architectures = [name for part in _parts(target).values() for name in architecture_names(part)]
    if reason := refusal(type(target), architectures):
        raise UnsupportedPipelineError(f"{class_names(target)[0]} cannot be guided: {reason}")
    if reason := _wrapper(target):
        raise UnsupportedPipelineError(reason)
    raise UnsupportedPipelineError(
        f'no family recognises {_described(target)}. Supported: {", ".join(FAMILIES)}. Run "vsf doctor" for details.'
    )


def _parts(target: Pipeline | Denoiser) -> dict[str, Any]:
    """Return a pipeline's components, or a denoiser under the name "model"."""
    return {"model": target} if isinstance(target, nn.Module) else getattr(target, "components", {})


def _wrapper(target: Pipeline | Denoiser) -> str | None:
    """Describe the part of a pipeline that wraps a denoiser, as a PeftModel does; None when no part does."""
    for name, part in _parts(target).items():
        inner = next(_denoisers_in(part), None)
        if inner is not None:
            return (
                f"{name} is a {class_names(part)[0]} around a {class_names(inner)[0]}, which has to be there "
                f"itself: unwrap it first (of a PeftModel, {name}.get_base_model() keeps the adapter's layers)"
            )
    return None


def _denoisers_in(part: Any) -> Iterator[nn.Module]:
    """Yield the modules inside a part of a pipeline that a family guides."""
    modules = part.modules() if isinstance(part, nn.Module) else ()
    for module in modules:
        if any(family.recognises(module) for family in FAMILIES.values()):
            yield module


def _described(target: Pipeline | Denoiser) -> str:
    """Return the class names of a pipeline and of its denoisers."""
    denoisers = []
    for name, part in getattr(target, "components", {}).items():
        if isinstance(part, nn.Module) and name.startswith(("transformer", "unet", "prior")):
            denoisers.append(f"{name} {class_names(part)[0]}")
    title = class_names(target)[0]
    return f"{title} ({', '.join(denoisers)})" if denoisers else title
