"""U-Nets of Stable Diffusion 1, 2 and XL: image tokens attend to the text of one CLIP or two."""

from typing import ClassVar

from torch import nn

from vsf.controls.grid import Grid
from vsf.families.base.family import Encoded, Family, Role
from vsf.families.base.host import CallArguments, Denoiser, Pipeline
from vsf.families.catalogue.unet_limits import check_unet
from vsf.families.encoders.clip import char_offsets_clip, encode_clip
from vsf.guidance import Guidance
from vsf.text.token_weights import Characters


class UNet(Family):
    """Stable Diffusion 1, 2 and XL with what is made from them: Turbo, LCM, Lightning, DMD2; AnimateDiff.

    The keys are [positive | negative]; an IP-Adapter's image tokens have calls of their own. The text is padded to 77
    tokens, which are attended. CLIP sees no token before its time, so padding changes nothing before it.
    """

    name = "unet"
    denoisers: ClassVar[tuple[str, ...]] = ("UNet2DConditionModel", "UNetMotionModel")
    pipelines: ClassVar[tuple[str, ...]] = (
        "StableDiffusionPipeline",
        "StableDiffusionImg2ImgPipeline",
        "StableDiffusionInpaintPipeline",
        "StableDiffusionControlNetPipeline",
        "StableDiffusionControlNetImg2ImgPipeline",
        "StableDiffusionControlNetInpaintPipeline",
        "StableDiffusionAdapterPipeline",
        "StableDiffusionUpscalePipeline",
        "StableDiffusionLatentUpscalePipeline",
        "StableDiffusionDepth2ImgPipeline",
        "StableUnCLIPPipeline",
        "StableUnCLIPImg2ImgPipeline",
        "StableDiffusionXLPipeline",
        "StableDiffusionXLImg2ImgPipeline",
        "StableDiffusionXLInpaintPipeline",
        "StableDiffusionXLControlNetPipeline",
        "StableDiffusionXLControlNetImg2ImgPipeline",
        "StableDiffusionXLControlNetInpaintPipeline",
        "StableDiffusionXLControlNetUnionPipeline",
        "StableDiffusionXLControlNetUnionImg2ImgPipeline",
        "StableDiffusionXLControlNetUnionInpaintPipeline",
        "StableDiffusionXLAdapterPipeline",
        "LatentConsistencyModelPipeline",
        "LatentConsistencyModelImg2ImgPipeline",
        "AnimateDiffPipeline",
        "AnimateDiffSDXLPipeline",
        "AnimateDiffVideoToVideoPipeline",
        "AnimateDiffControlNetPipeline",
        "AnimateDiffVideoToVideoControlNetPipeline",
        "AnimateDiffSparseControlNetPipeline",
    )
    roles = ((r".*\.attn[12]", Role("cross")),)
    text_mask = "encoder_attention_mask"
    conditions: ClassVar[tuple[str, ...]] = ("encoder_hidden_states", "added_cond_kwargs")
    guidance = "batch"

    def encode(self, pipe: Pipeline, text: str) -> Encoded:
        """Return the rows of CLIP, or of both side by side."""
        return encode_clip(pipe, text)

    def characters(self, pipe: Pipeline, text: str) -> Characters:
        """Return the characters of CLIP's tokens, at the full length of 77."""
        return char_offsets_clip(pipe, text)

    def attention_layers(self, denoiser: nn.Module) -> dict[str, tuple[nn.Module, Role]]:
        """Return layers that attend to the text: some of the `attn1` do, and a motion module's `attn2` does not."""
        layers = super().attention_layers(denoiser)
        return {name: (layer, role) for name, (layer, role) in layers.items() if layer.is_cross_attention}

    def check(self, target: Pipeline | Denoiser, method: Guidance) -> None:
        """Check also that the U-Net mixes no text tokens before the attention. Raises as `Family.check` does."""
        super().check(target, method)
        for denoiser in self.denoisers_of(target):
            check_unet(denoiser)

    def grid(self, denoiser: Denoiser, arguments: CallArguments) -> Grid:
        """Return the sizes of the latents, which have one token for each pixel; deeper layers halve them."""
        return Grid(*arguments["sample"].shape[-2:])
