"""Model families by name, and which of them a pipeline belongs to."""

from typing import Any

from torch import nn

from vsf.errors import UnsupportedPipelineError
from vsf.families.base import Family, class_names
from vsf.families.sd3 import StableDiffusion3
from vsf.registry import Registry

FAMILIES: Registry[Family] = Registry(
    "family",
    {
        "sd3": StableDiffusion3(),
    },
)


def find_family(target: Any) -> Family:
    """Return the family of a diffusers pipeline, or of a denoiser on its own. Raises UnsupportedPipelineError."""
    for family in FAMILIES.values():
        if family.denoisers_of(target):
            return family
    raise UnsupportedPipelineError(
        f'no family recognises {_described(target)}. Supported: {", ".join(FAMILIES)}. Run "vsf doctor" for details.'
    )


def _described(target: Any) -> str:
    """Name a pipeline by its class and those of its denoisers."""
    components = getattr(target, "components", {})
    models = [f"{name} {class_names(part)[0]}" for name, part in components.items() if isinstance(part, nn.Module)]
    denoisers = [model for model in models if model.startswith(("transformer", "unet", "prior"))]
    title = class_names(target)[0]
    return f"{title} ({', '.join(denoisers)})" if denoisers else title
