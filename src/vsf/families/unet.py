"""U-Nets of Stable Diffusion 1, 2 and XL: image tokens attend to the text of one CLIP or two."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from vsf.controls.grid import Grid
from vsf.families.base.family import Encoded, Family, Role
from vsf.families.catalogue.unet_limits import check_unet
from vsf.families.encoders.clip import characters_of_clip, encode_clip
from vsf.guidance import Guidance
from vsf.text.token_weights import Characters


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
        """Rows of CLIP, or of both side by side."""
        return encode_clip(pipe, text)

    def characters(self, pipe: Any, text: str) -> Characters:
        """CLIP's tokens."""
        return characters_of_clip(pipe, text)

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
