"""More pipelines of families that have a tiny_*.py of their own: what few people use, or came later."""

from functools import partial
from types import SimpleNamespace

import torch
from diffusers.pipelines.ltx2.latent_upsampler import LTX2LatentUpsamplerModel
from PIL import Image

from families.harness import Variant, noise, picture, quiet
from families.models import tiny_ltx2 as ltx2
from families.models import tiny_masked as masked
from families.models import tiny_per_block_pipelines as per_block
from families.models import tiny_wan as wan
from families.models.tiny_per_block import built, hunyuan_image
from families.models.tiny_unet_pipelines import remade
from support import host
from support import tiny_pipelines as tiny


def z_image_control(name):
    sizes = {"dim": 32, "n_refiner_layers": 1, "n_heads": 2, "n_kv_heads": 2, "control_in_dim": 9}
    places = {"control_layers_places": [0], "control_refiner_layers_places": [0]}
    cls = host.ZImageControlNetModel
    control = built(cls, **sizes, **places, add_control_noise_refiner="control_layers")
    return remade(per_block.zimage_pipeline, name, controlnet=control)


def refiner(name):
    """HunyuanImage's second pipeline, which has Qwen alone and a picture beside the latents."""
    whole = per_block.hunyuan_image_pipeline
    sizes = {"patch_size": (1, 1, 1), "in_channels": 8, "out_channels": 4, "rope_axes_dim": (2, 2, 4)}
    model = hunyuan_image(**sizes, text_embed_2_dim=None, guidance_embeds=True)
    pipe = remade(whole, name, transformer=model, vae=None, guider=None)
    pipe.prompt_template_encode = whole().prompt_template_encode
    pipe.prompt_template_encode_start_idx = whole().prompt_template_encode_start_idx
    pipe.latent_channels = 4
    return pipe


def lucy(name):
    return remade(wan.pipeline, name, transformer=wan.transformer(in_channels=32))


def ltx2_with_pictures(name):
    """Its encoder makes pictures as much smaller as its decoder makes them larger in LTX-2 as released."""
    vae = ltx2.video_autoencoder()
    vae.spatial_compression_ratio, vae.temporal_compression_ratio = 32, 8
    return remade(ltx2.pipeline, name, vae=vae)


def ltx2_with_frames_between(name):
    """What makes more frames of a clip that was made before, whose keyframes it takes."""
    base = ltx2_with_pictures("LTX2DFRPipeline")
    sizes = {"in_channels": 8, "mid_channels": 32, "num_blocks_per_stage": 1, "dims": 3}
    torch.manual_seed(0)
    upsampler = LTX2LatentUpsamplerModel(**sizes, spatial_upsample=False, temporal_upsample=True).eval()
    parts = {"temporal_latent_upsampler": upsampler, "scheduler": host.LTXEulerAncestralRFScheduler(eta=0.5)}
    model = ltx2.transformer(use_keyframes_abs_pos_embedding=True)
    return remade(lambda: base, name, transformer=model, **parts)


def sd3_inpaint(name):
    sizes = {"num_layers": 1, "attention_head_dim": 8, "num_attention_heads": 4, "sample_size": 8, "patch_size": 1}
    dims = {"in_channels": 16, "joint_attention_dim": 32, "caption_projection_dim": 32, "pooled_projection_dim": 32}
    control = built(host.SD3ControlNetModel, **sizes, **dims, pos_embed_max_size=16, extra_conditioning_channels=1)
    return quiet(tiny.sd3(getattr(host, name), channels=16, extra={"controlnet": control}))


FIRST = Image.new("RGB", (128, 64), (200, 30, 30))
UNGUIDED = {name: value for name, value in ltx2.SETTINGS.items() if name != "num_inference_steps"}
LTX2 = {**ltx2.SETTINGS, "guidance_scale": 1.0}
CONDITION = {"conditions": [SimpleNamespace(frames=FIRST, index=0, strength=1.0, crf=0)]}  # 0: not compressed as a film
BEFORE = {"latents": noise(1, 8, 2, 2, 4), "audio_latents": noise(1, 2, 9, 4)}
BEFORE |= {"keyframes_latents": noise(1, 8, 1, 2, 4), "keyframe_positions": [8]}
MASK = {"mask_image": torch.ones(1, 1, 32, 48)}

MADE = {
    "StableDiffusion3ControlNetInpaintingPipeline": (
        sd3_inpaint,
        {**tiny.SETTINGS, "control_image": picture(8, 8), "control_mask": torch.ones(1, 1, 8, 8)},
    ),
    "LucyEditPipeline": (lucy, wan.CLIP),
    "LTXI2VLongMultiPromptPipeline": (
        partial(remade, masked.ltx_pipeline),
        {**masked.LTX, "num_frames": 17, "temporal_tile_size": 16, "temporal_overlap": 8},
    ),
    "LTX2ImageToVideoPipeline": (ltx2_with_pictures, {**LTX2, "image": FIRST, "image_crf": 0}),
    "LTX2ConditionPipeline": (ltx2_with_pictures, {**LTX2, **CONDITION}),
    "LTX2InContextPipeline": (ltx2_with_pictures, {**LTX2, **CONDITION}),
    "LTX2HDRPipeline": (ltx2_with_pictures, LTX2),
    "LTX2DFRPipeline": (ltx2_with_pictures, {**UNGUIDED, **CONDITION, "sigmas": [1.0, 0.5], "generate_slots": False}),
    "LTX2DFRTemporalRefinePipeline": (ltx2_with_frames_between, {**UNGUIDED, **BEFORE, "sigmas": [1.0, 0.5]}),
    "ZImageControlNetInpaintPipeline": (
        z_image_control,
        {**per_block.Z_IMAGE, "control_image": picture(32, 48), "image": picture(32, 48), **MASK},
    ),
    "HunyuanImageRefinerPipeline": (
        refiner,
        {**per_block.LATENT, "height": 64, "width": 96, "image": noise(1, 4, 1, 4, 6)},
    ),
}
VARIANTS = [Variant(name, partial(build, name), settings) for name, (build, settings) in MADE.items()]
