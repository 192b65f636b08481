"""More pipelines of U-Nets: controls, adapters, clips, and what they make of a picture."""

import inspect
from functools import partial

import torch
from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer
from PIL import Image
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    DPTConfig,
    DPTForDepthEstimation,
    DPTImageProcessorPil,
)

from families.harness import Variant, quiet
from families.models import tiny_unet as unets
from support import host
from support import tiny_pipelines as tiny

SAME = ("block_out_channels", "layers_per_block", "in_channels", "down_block_types", "attention_head_dim")
NARROW = {name: unets.SIZES[name] for name in (*SAME, "norm_num_groups")}


def remade(base, name, **extra):
    """A pipeline of another class with the parts of this one."""
    cls = getattr(host, name)
    parts = {**base().components, **extra}
    return quiet(cls(**{key: part for key, part in parts.items() if key in inspect.signature(cls).parameters}))


def built(name, **sizes):
    torch.manual_seed(0)
    return tiny.without_silent_parts(getattr(host, name)(**sizes).eval())


def controlled(base, name, control=unets.controlnet):
    return remade(base, name, controlnet=control())


def controlnet_xl(name="ControlNetModel", **sizes):
    return built(name, **{**NARROW, **unets.XL, "conditioning_embedding_out_channels": (16,), **sizes})


def union():
    return controlnet_xl("ControlNetUnionModel", num_trans_channel=4, num_trans_head=2, num_proj_channel=4)


def sparse():
    sizes = {**NARROW, "cross_attention_dim": unets.SIZES["cross_attention_dim"]}
    sizes |= {"down_block_types": ("DownBlockMotion", "CrossAttnDownBlockMotion"), "motion_num_attention_heads": 2}
    return built("SparseControlNetModel", **sizes, conditioning_embedding_out_channels=(16,))


def adapted(name):
    """With a T2I-Adapter, for which the first layers attend to the text."""
    blocks = {"down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D")}
    blocks |= {"up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D")}
    return remade(partial(unets.pipeline, sizes=blocks), name, adapter=adapter("full_adapter", 1))


def adapted_xl(name):
    return remade(unets.pipeline_xl, name, adapter=adapter("full_adapter_xl", 2))


def with_depth(name):
    """Beside the latents stand the distances that a model of its own finds in the picture."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 16}
    necks = {"neck_hidden_sizes": [8] * 4, "fusion_hidden_size": 8, "backbone_out_indices": [0, 1, 2, 3]}
    torch.manual_seed(0)
    depth = DPTForDepthEstimation(DPTConfig(**sizes, **necks, image_size=32, patch_size=16, is_hybrid=False)).eval()
    seen = DPTImageProcessorPil(size={"height": 32, "width": 32})
    base = partial(unets.pipeline, sizes={"in_channels": 5})
    return remade(base, name, depth_estimator=depth, feature_extractor=seen)


def twice_as_large(name):
    """Its U-Net is told the noise together with the pooled text, and gives one channel more than it is given."""
    sizes = {"in_channels": 8, "out_channels": 5, "time_cond_proj_dim": 128 + 16}
    return remade(partial(unets.pipeline, sizes=sizes), name)


def unclip(name):
    """Its U-Net is told the embedding of a picture, which is given or made from the prompt."""
    torch.manual_seed(0)
    prior = host.PriorTransformer(2, 8, num_layers=1, embedding_dim=16, num_embeddings=77).eval()
    steps = {"variance_type": "fixed_small_log", "prediction_type": "sample", "beta_schedule": "squaredcos_cap_v2"}
    parts = {"prior": prior, "prior_scheduler": host.UnCLIPScheduler(**steps, clip_sample_range=5.0)}
    parts |= {"prior_tokenizer": tiny.clip_tokenizer(), "prior_text_encoder": tiny.clip(seed=1)}
    parts |= {"image_encoder": vision(), "feature_extractor": CLIPImageProcessorPil(**SEEN)}
    parts |= {"image_normalizer": StableUnCLIPImageNormalizer(16), "image_noising_scheduler": host.DDPMScheduler()}
    sizes = {"class_embed_type": "projection", "projection_class_embeddings_input_dim": 32}
    return remade(partial(unets.pipeline, sizes=sizes), name, **parts)


def vision():
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(**sizes, image_size=4, patch_size=2, projection_dim=16)
    ).eval()


def adapter(kind, downscale):
    sizes = {"channels": list(unets.SIZES["block_out_channels"]), "num_res_blocks": 1, "downscale_factor": downscale}
    return built("T2IAdapter", **sizes, adapter_type=kind)


def animated_xl():
    adapter = built(
        "MotionAdapter",
        block_out_channels=unets.SIZES["block_out_channels"],
        motion_layers_per_block=1,
        motion_norm_num_groups=1,
        motion_num_attention_heads=2,
        use_motion_mid_block=False,
    )
    return remade(unets.pipeline_xl, "AnimateDiffSDXLPipeline", motion_adapter=adapter)


SEEN = {"size": {"shortest_edge": 4}, "crop_size": {"height": 4, "width": 4}}
SQUARE = {"image": Image.new("RGB", (64, 64), (200, 30, 30))}
SIZED, PLAIN, FULLY = unets.SETTINGS, unets.PLAIN, {"strength": 1.0}
IMAGE, CONTROL, MASK = {"image": unets.PICTURE}, {"control_image": unets.PICTURE}, unets.MASK
MODE = {"control_mode": [0]}
CLIP, FRAMES = {"num_frames": 3}, [unets.PICTURE] * 3
VIDEO, CONDITIONS = {"video": FRAMES, **FULLY}, {"conditioning_frames": FRAMES}
SD, XL = unets.pipeline, unets.pipeline_xl
MOTION = unets.animatediff
ONE, TWO, MANY = controlled, partial(controlled, control=controlnet_xl), partial(controlled, control=union)

MADE = {
    "LatentConsistencyModelImg2ImgPipeline": (partial(remade, unets.lcm), {**PLAIN, **IMAGE, **FULLY}),
    "StableDiffusionControlNetImg2ImgPipeline": (partial(ONE, SD), {**SIZED, **IMAGE, **CONTROL, **FULLY}),
    "StableDiffusionControlNetInpaintPipeline": (partial(ONE, SD), {**SIZED, **IMAGE, **MASK, **CONTROL}),
    "StableDiffusionAdapterPipeline": (adapted, {**SIZED, **IMAGE}),
    "StableDiffusionXLControlNetPipeline": (partial(TWO, XL), {**SIZED, **IMAGE}),
    "StableDiffusionXLControlNetImg2ImgPipeline": (partial(TWO, XL), {**SIZED, **IMAGE, **CONTROL, **FULLY}),
    "StableDiffusionXLControlNetInpaintPipeline": (partial(TWO, XL), {**SIZED, **IMAGE, **MASK, **CONTROL, **FULLY}),
    "StableDiffusionXLControlNetUnionPipeline": (partial(MANY, XL), {**SIZED, **CONTROL, **MODE}),
    "StableDiffusionXLControlNetUnionImg2ImgPipeline": (
        partial(MANY, XL),
        {**SIZED, **IMAGE, **CONTROL, **MODE, **FULLY},
    ),
    "StableDiffusionXLControlNetUnionInpaintPipeline": (
        partial(MANY, XL),
        {**SIZED, **IMAGE, **MASK, **CONTROL, **MODE, **FULLY},
    ),
    "StableDiffusionXLAdapterPipeline": (adapted_xl, {**SIZED, **IMAGE}),
    "StableDiffusionDepth2ImgPipeline": (with_depth, {**PLAIN, **SQUARE, **FULLY}),
    "StableDiffusionLatentUpscalePipeline": (twice_as_large, {**PLAIN, **SQUARE}),
    "StableUnCLIPPipeline": (unclip, {**SIZED, "prior_num_inference_steps": 2}),
    "StableUnCLIPImg2ImgPipeline": (unclip, {**SIZED, **IMAGE}),
    "AnimateDiffSDXLPipeline": (lambda _: animated_xl(), {**SIZED, **CLIP}),
    "AnimateDiffVideoToVideoPipeline": (partial(remade, MOTION), {**SIZED, **VIDEO}),
    "AnimateDiffControlNetPipeline": (partial(ONE, MOTION), {**SIZED, **CLIP, **CONDITIONS}),
    "AnimateDiffVideoToVideoControlNetPipeline": (partial(ONE, MOTION), {**SIZED, **VIDEO, **CONDITIONS}),
    "AnimateDiffSparseControlNetPipeline": (
        partial(controlled, MOTION, control=sparse),
        {**SIZED, **CLIP, "conditioning_frames": FRAMES[:1]},
    ),
}

VARIANTS = [Variant(name, partial(build, name), settings) for name, (build, settings) in MADE.items()]
VARIANTS.append(
    Variant("StableDiffusionUpscalePipeline", unets.upscaler, {**PLAIN, **IMAGE}),
)
