"""U-Nets of Stable Diffusion 1, 2 and XL: image tokens attend to the text of one CLIP or two."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from vsf.encode import Unpadded
from vsf.families.base import Encoded, Family, Role, require_encoders
from vsf.families.unet_limits import check_unet
from vsf.grid import Grid
from vsf.guidance import Guidance
from vsf.hooks import calls_swapped


class UNet(Family):
    """Stable Diffusion 1, 2 and XL with what is made from them: Turbo, LCM, Lightning, DMD2; AnimateDiff.

    The keys are [positive | negative]; an IP-Adapter's image tokens have calls of their own. The text is padded to 77
    tokens, which are attended. CLIP sees no token before its time, so padding changes nothing before it.
    """

    name = "unet"
    denoisers = ("UNet2DConditionModel", "UNetMotionModel")
    roles = ((r".*\.attn[12]", Role("cross")),)
    text_mask = "encoder_attention_mask"
    conditions = ("encoder_hidden_states", "added_cond_kwargs")
    guidance = "batch"

    def encode(self, pipe: Any, text: str) -> Encoded:
        """Rows of CLIP, or of both side by side, as long as the longer of them."""
        numbers = [number for number in ("", "_2") if getattr(pipe, f"tokenizer{number}", None) is not None]
        require_encoders(pipe, *(f"text_encoder{number}" for number in numbers or [""]))
        clips = [getattr(pipe, f"tokenizer{number}") for number in numbers]
        length = max(len(clip(text, truncation=True).input_ids) for clip in clips)
        swaps = {id(clip): (clip, Unpadded(length)) for clip in clips}  # one tokenizer may serve both encoders
        with torch.no_grad(), calls_swapped(swaps.values()):
            embeddings, *_ = pipe.encode_prompt(
                text, device=pipe._execution_device, num_images_per_prompt=1, do_classifier_free_guidance=False
            )
        special = torch.cat([swaps[id(clip)][1].special for clip in clips]).all(0)
        return Encoded(embeddings[0], special.to(embeddings.device))

    def attention_layers(self, denoiser: nn.Module) -> dict[str, tuple[nn.Module, Role]]:
        """Layers that attend to the text: `attn1` is one in some, and a motion module's `attn2` is none."""
        layers = super().attention_layers(denoiser)
        return {name: (layer, role) for name, (layer, role) in layers.items() if layer.is_cross_attention}

    def check(self, target: Any, method: Guidance) -> None:
        """Refuse what `unet_limits` names."""
        super().check(target, method)
        for denoiser in self.denoisers_of(target):
            check_unet(denoiser)

    def grid(self, denoiser: Any, arguments: Mapping[str, Any]) -> Grid:
        """The latents; deeper layers halve them."""
        del denoiser
        return Grid(*arguments["sample"].shape[-2:])
