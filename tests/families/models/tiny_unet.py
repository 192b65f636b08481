"""U-Nets of Stable Diffusion 1, 2 and XL from a few thousand random weights, and what is made from them."""

import diffusers
import torch
from diffusers import EulerDiscreteScheduler, LCMScheduler, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextModel

from families.harness import Case, PipelineCase, Variant, quiet
from support import tiny_pipelines as tiny
from support.lockstep_oracle import CROSS

SIZES = {
    "block_out_channels": (4, 8),
    "layers_per_block": 1,
    "sample_size": 16,
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": (2, 4),
    "cross_attention_dim": 16,
    "norm_num_groups": 1,
}
XL = {
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 64,
    "transformer_layers_per_block": (1, 2),
    "cross_attention_dim": 32,
}


def unet(**changes):
    torch.manual_seed(0)
    return tiny.without_silent_parts(UNet2DConditionModel(**{**SIZES, **changes}).eval())


def unet_xl(**changes):
    return unet(**XL, **changes)


def inputs(text):
    sample = torch.randn(1, 4, 8, 12, generator=torch.Generator().manual_seed(1))
    return {
        "sample": sample.expand(len(text), -1, -1, -1),
        "timestep": torch.tensor(500.0),
        "encoder_hidden_states": text,
    }


def inputs_xl(text):
    pooled = torch.randn(1, 16, generator=torch.Generator().manual_seed(2)).expand(len(text), -1)
    return {**inputs(text), "added_cond_kwargs": {"text_embeds": pooled, "time_ids": torch.zeros(len(text), 6)}}


def masked_inputs(text):
    """With a mask, here over what a text has beyond ten tokens."""
    mask = (torch.arange(text.shape[1]) < 10).float().expand(len(text), -1)
    return {**inputs(text), "encoder_attention_mask": mask}


def pipeline(cls=diffusers.StableDiffusionPipeline, scheduler=EulerDiscreteScheduler, sizes=None, **extra):
    checker = {} if cls is diffusers.AnimateDiffPipeline else {"safety_checker": None, "feature_extractor": None}
    return quiet(
        cls(
            unet=unet(**(sizes or {})),
            scheduler=scheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"),
            vae=tiny.autoencoder(4),
            text_encoder=tiny.clip(seed=0, cls=CLIPTextModel),
            tokenizer=tiny.clip_tokenizer(),
            **checker,
            **extra,
        )
    )


def pipeline_xl(cls=diffusers.StableDiffusionXLPipeline, scheduler=EulerDiscreteScheduler, **extra):
    return quiet(
        cls(
            unet=unet_xl(),
            scheduler=scheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"),
            vae=tiny.autoencoder(4),
            text_encoder=tiny.clip(seed=0, cls=CLIPTextModel),
            tokenizer=tiny.clip_tokenizer(),
            text_encoder_2=tiny.clip(seed=1),
            tokenizer_2=tiny.clip_tokenizer(),
            **extra,
        )
    )


def lcm():
    return pipeline(diffusers.LatentConsistencyModelPipeline, LCMScheduler, {"time_cond_proj_dim": 8})


def controlnet():
    sizes = {
        name: SIZES[name] for name in ("block_out_channels", "layers_per_block", "in_channels", "down_block_types")
    }
    dims = {name: SIZES[name] for name in ("attention_head_dim", "cross_attention_dim", "norm_num_groups")}
    model = diffusers.ControlNetModel(**sizes, **dims, conditioning_embedding_out_channels=(16,))
    return tiny.without_silent_parts(model.eval())


def with_image_prompt():
    """Stable Diffusion with an IP-Adapter of four image tokens."""
    pipe = pipeline()
    wide, layers = pipe.unet.config.cross_attention_dim, {}
    generator = torch.Generator().manual_seed(4)
    for number, layer in enumerate(pipe.unet.attn_processors):
        if layer.endswith("attn2.processor"):
            out = pipe.unet.get_submodule(layer.removesuffix(".processor")).to_k.out_features
            for name in ("to_k_ip", "to_v_ip"):
                layers[f"{number}.{name}.weight"] = torch.randn(out, wide, generator=generator)
    made = {"proj.weight": torch.randn(4 * wide, 8, generator=generator), "proj.bias": torch.zeros(4 * wide)}
    made |= {"norm.weight": torch.ones(wide), "norm.bias": torch.zeros(wide)}
    pipe.unet._load_ip_adapter_weights([{"image_proj": made, "ip_adapter": layers}])
    return pipe


def animatediff():
    adapter = diffusers.MotionAdapter(
        block_out_channels=SIZES["block_out_channels"],
        motion_layers_per_block=1,
        motion_norm_num_groups=1,
        motion_num_attention_heads=2,
        use_motion_mid_block=False,
    )
    adapter = tiny.without_silent_parts(adapter.eval())
    return pipeline(diffusers.AnimateDiffPipeline, motion_adapter=adapter)


def upscaler():
    sizes = {"in_channels": 7, "num_class_embeds": 1000, "only_cross_attention": (True, False)}
    low = diffusers.DDPMScheduler()
    return pipeline(diffusers.StableDiffusionUpscalePipeline, sizes=sizes, low_res_scheduler=low, watermarker=None)


def unpadded(pipe, text):
    return pipe.text_encoder(torch.tensor([pipe.tokenizer(text).input_ids]))[0][0]


def unpadded_xl(pipe, text):
    pairs = ((pipe.tokenizer, pipe.text_encoder), (pipe.tokenizer_2, pipe.text_encoder_2))
    ids = [(encoder, torch.tensor([tokenizer(text).input_ids])) for tokenizer, encoder in pairs]
    return torch.cat([encoder(each, output_hidden_states=True).hidden_states[-2] for encoder, each in ids], -1)[0]


LAYERS = {r".*attentions.*\.attn2": CROSS}
PLAIN = {"num_inference_steps": 2, "guidance_scale": 0.0, "output_type": "latent"}
SETTINGS = {**PLAIN, "height": 8, "width": 16}
MARKS = [True, False, False, True]  # begin, a, b, end
PICTURE = Image.new("RGB", (16, 8), (200, 30, 30))
CASES = [
    Case("unet", unet, inputs, channels=16, layers=LAYERS, grid=(8, 12), name="stable diffusion"),
    Case("unet", unet_xl, inputs_xl, channels=32, layers=LAYERS, grid=(8, 12), name="sdxl"),
    Case("unet", unet, masked_inputs, channels=16, layers=LAYERS, grid=(8, 12), name="stable diffusion with a mask"),
]

PIPELINES = [
    PipelineCase(
        "stable diffusion",
        pipeline,
        SETTINGS,
        text=unpadded,
        special=MARKS,
        denoiser="unet",
        latents=(4, 8, 16),
        cfg={"guidance_scale": 3.0, "negative_prompt": "ugly"},
        unconditional=(True, False),
    ),
    PipelineCase(
        "sdxl",
        pipeline_xl,
        SETTINGS,
        text=unpadded_xl,
        special=MARKS,
        encoders=("text_encoder", "text_encoder_2"),
        denoiser="unet",
        latents=(4, 8, 16),
        cfg={"guidance_scale": 3.0, "negative_prompt": "ugly"},
        unconditional=(True, False),
    ),
]


IMAGE = {"image": PICTURE, "strength": 1.0}
MASK = {"mask_image": Image.new("L", (16, 8), 255)}
VARIANTS = [
    Variant("lcm", lcm, SETTINGS),
    Variant("sd image to image", lambda: pipeline(diffusers.StableDiffusionImg2ImgPipeline), {**PLAIN, **IMAGE}),
    Variant("sd inpaint", lambda: pipeline(diffusers.StableDiffusionInpaintPipeline), {**SETTINGS, **IMAGE, **MASK}),
    Variant(
        "sd control",
        lambda: pipeline(diffusers.StableDiffusionControlNetPipeline, controlnet=controlnet()),
        {**SETTINGS, "image": PICTURE},
    ),
    Variant("sdxl image to image", lambda: pipeline_xl(diffusers.StableDiffusionXLImg2ImgPipeline), {**PLAIN, **IMAGE}),
    Variant(
        "sdxl inpaint", lambda: pipeline_xl(diffusers.StableDiffusionXLInpaintPipeline), {**SETTINGS, **IMAGE, **MASK}
    ),
    Variant("ip adapter", with_image_prompt, {**SETTINGS, "ip_adapter_image_embeds": [torch.ones(1, 1, 8)]}),
    Variant("animatediff", animatediff, {**SETTINGS, "num_frames": 3}),
]
