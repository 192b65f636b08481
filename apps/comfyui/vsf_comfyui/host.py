"""The names that the pack uses of ComfyUI; no other module of the pack imports it."""

from dataclasses import fields
from typing import Any

try:
    import comfy.latent_formats
    import comfy.sample
    import comfy.sd
    import comfy.utils
    from comfy.sd1_clip import SDClipModel, SDTokenizer
    from comfy_api.latest import ComfyExtension, io, ui
except ModuleNotFoundError as missing:
    if missing.name is None or not missing.name.startswith("comfy"):
        raise
    raise ModuleNotFoundError(
        f"the nodes of vsf run inside ComfyUI 0.8.0 or newer, and {missing.name} is missing. Put the folder into "
        "ComfyUI's custom_nodes and start ComfyUI; for diffusers use the package vsf itself",
        name=missing.name,
    ) from missing

from torch import Tensor

from .interfaces import Conditioning, ModelPatcher

__all__ = [
    "ComfyExtension",
    "SDClipModel",
    "SDTokenizer",
    "io",
    "latent_formats",
    "load_torch_file",
    "new_clip",
    "new_diffusion_model",
    "sample_one_step",
    "schema",
    "ui",
]

latent_formats = comfy.latent_formats
load_torch_file = comfy.utils.load_torch_file
new_clip = comfy.sd.CLIP
new_diffusion_model = comfy.sd.load_diffusion_model


def schema(**settings: Any) -> Any:
    """Return a node's schema without the settings that this release of ComfyUI lacks, such as search aliases."""
    supported = {field.name for field in fields(io.Schema)}
    return io.Schema(**{name: value for name, value in settings.items() if name in supported})


def sample_one_step(model: ModelPatcher, positive: Conditioning, latents: Tensor) -> Tensor:
    """Run one step of the Euler sampler at cfg 1 on noise with the shape of `latents`."""
    latents = comfy.sample.fix_empty_latent_channels(model, latents)
    noise = comfy.sample.prepare_noise(latents, 0)
    return comfy.sample.sample(
        model, noise, 1, 1.0, "euler", "simple", positive, positive, latents, disable_pbar=True, seed=0
    )
