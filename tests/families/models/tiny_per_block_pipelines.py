"""Pipelines of the families whose negatives are passed from block to block, from a few thousand random weights."""

from functools import partial

import diffusers
import torch
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import DEFAULT_PROMPT_TEMPLATE as TEMPLATE
from PIL import Image
from transformers import ByT5Tokenizer, CLIPTextModel, SiglipImageProcessorPil, SiglipVisionConfig, SiglipVisionModel

from families.harness import PipelineCase, Variant, picture, quiet
from families.models import chat_models as chat
from families.models.tiny_per_block import (
    built,
    framepack,
    hunyuan_image,
    hunyuan_video,
    hunyuan_video15,
    lumina2,
    zimage,
)
from support import tiny_pipelines as tiny


def zimage_pipeline(cls=diffusers.ZImagePipeline, **extra):
    parts = {"vae": tiny.autoencoder(4), "text_encoder": chat.qwen3(), "tokenizer": chat.tokenizer()}
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    return quiet(cls(transformer=zimage(), scheduler=scheduler, **parts, **extra))


def lumina2_pipeline(cls=diffusers.Lumina2Pipeline):
    parts = {"vae": tiny.autoencoder(4), "text_encoder": chat.gemma2(), "tokenizer": chat.tokenizer()}
    return quiet(cls(transformer=lumina2(), scheduler=diffusers.FlowMatchEulerDiscreteScheduler(), **parts))


def framed(text):
    """The prompt as Z-Image has a language model read it."""
    return f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"


def read(pipe, text, layer=-2):
    """What the language model makes of the real tokens of a text."""
    ids = torch.tensor([pipe.tokenizer(text).input_ids])
    return pipe.text_encoder(ids, output_hidden_states=True).hidden_states[layer][0]


def hunyuan_video_pipeline(cls=diffusers.HunyuanVideoPipeline, model=None, **extra):
    frame = TEMPLATE["template"].partition("{}")[0]
    return quiet(
        cls(
            transformer=model or hunyuan_video(),
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
            vae=hunyuan_vae(),
            text_encoder=chat.llama(),
            tokenizer=chat.tokenizer(frame, TEMPLATE["crop_start"]),
            text_encoder_2=tiny.clip(0, CLIPTextModel),
            tokenizer_2=tiny.clip_tokenizer(),
            **extra,
        )
    )


def hunyuan_vae():
    blocks = {"block_out_channels": (4, 4, 4, 4), "norm_num_groups": 2, "layers_per_block": 1}
    return built(diffusers.AutoencoderKLHunyuanVideo, latent_channels=4, mid_block_add_attention=False, **blocks)


def read_behind_template(pipe, text):
    """HunyuanVideo's text: what Llama makes of it behind the template."""
    return read(pipe, TEMPLATE["template"].format(text), layer=-3)[TEMPLATE["crop_start"] :]


def hunyuan_image_pipeline(guider=None, **changes):
    pipe = diffusers.HunyuanImagePipeline(
        transformer=hunyuan_image(text_embed_2_dim=32, **changes),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=None,
        text_encoder=chat.qwen25_vl(),
        tokenizer=chat.tokenizer(),
        text_encoder_2=tiny.t5_encoder(),
        tokenizer_2=ByT5Tokenizer(),
        guider=guider,
    )
    frame = pipe.prompt_template_encode.partition("{}")[0]
    pipe.prompt_template_encode_start_idx = len(pipe.tokenizer(frame).input_ids)
    return quiet(pipe)


def read_behind_frame(pipe, text):
    ids = pipe.tokenizer(pipe.prompt_template_encode.format(text)).input_ids
    read = pipe.text_encoder(torch.tensor([ids]), output_hidden_states=True).hidden_states[-3][0]
    return read[pipe.prompt_template_encode_start_idx :]


def hunyuan_video15_pipeline(guider=None, cls=diffusers.HunyuanVideo15Pipeline, **extra):
    blocks = {"block_out_channels": (8,) * 5, "layers_per_block": 1}
    pipe = cls(
        transformer=hunyuan_video15(text_embed_2_dim=32, in_channels=9),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=built(diffusers.AutoencoderKLHunyuanVideo15, latent_channels=4, **blocks),
        text_encoder=chat.qwen25_vl().model.language_model,
        tokenizer=chat.tokenizer(),
        text_encoder_2=tiny.t5_encoder(),
        tokenizer_2=ByT5Tokenizer(),
        guider=guider or diffusers.ClassifierFreeGuidance(guidance_scale=1.0),
        **extra,
    )
    pipe.prompt_template_encode_start_idx = len(pipe.tokenizer(chat_before(pipe)).input_ids)
    return quiet(pipe)


def chat_before(pipe):
    """What HunyuanVideo-1.5 puts before a prompt."""
    return f"<|im_start|>system\n{pipe.system_message}<|im_end|>\n<|im_start|>user\n"


def read_in_chat(pipe, text):
    framed = f"{chat_before(pipe)}{text}<|im_end|>\n<|im_start|>assistant\n"
    return read(pipe, framed, layer=-3)[pipe.prompt_template_encode_start_idx :]


AFTER = [True] * 13  # end, line feed, begin, "assistant", line feed
LATENT = {"num_inference_steps": 2, "output_type": "latent"}
CLIP = {**LATENT, "num_frames": 5, "height": 32, "width": 48}

PIPELINES = [
    PipelineCase(
        name="z_image",
        build=zimage_pipeline,
        settings={**LATENT, "height": 16, "width": 24, "guidance_scale": 0.0, "max_sequence_length": 64},
        text=lambda pipe, text: read(pipe, framed(text)),
        special=[*[True] * 6, False, False, *AFTER],  # begin, "user", line feed; a, b
        compiles_once=False,
        latents=(4, 16, 24),
        cfg={"guidance_scale": 3.0},
    ),
    PipelineCase(
        name="lumina2",
        build=lumina2_pipeline,
        settings={**LATENT, "height": 32, "width": 48, "guidance_scale": 1.0},
        text=read,
        special=[False, False],
        compiles_once=False,
        latents=(4, 4, 6),
        cfg={"guidance_scale": 3.0},
        prompts=("a red car", "two dogs."),
    ),
    PipelineCase(
        name="hunyuan_video",
        build=hunyuan_video_pipeline,
        settings=CLIP,
        text=read_behind_template,
        special=[False, False, True],
        compiles_once=False,
        latents=(4, 2, 4, 6),
        cfg={"true_cfg_scale": 3.0, "negative_prompt": "ugly"},
        copies="num_videos_per_prompt",
    ),
    PipelineCase(
        name="hunyuan_image",
        build=lambda: hunyuan_image_pipeline(diffusers.ClassifierFreeGuidance(guidance_scale=3.0)),
        settings={**LATENT, "height": 128, "width": 192},
        text=read_behind_frame,
        special=[False, False, True],
        compiles_once=False,
        latents=(4, 4, 6),
        cfg={"negative_prompt": "ugly"},
        prompts=("a red car", "two dogs."),
    ),
    PipelineCase(
        name="hunyuan_video15",
        build=lambda: hunyuan_video15_pipeline(diffusers.ClassifierFreeGuidance(guidance_scale=3.0)),
        settings={**CLIP, "height": 64, "width": 96},
        text=read_in_chat,
        special=[False, False, *AFTER],
        compiles_once=False,
        cfg={"negative_prompt": "ugly"},
    ),
]


def with_controlnet():
    sizes = {"dim": 32, "n_refiner_layers": 1, "n_heads": 2, "n_kv_heads": 2, "control_in_dim": 4}
    places = {"control_layers_places": [0], "control_refiner_layers_places": [0]}
    control = built(diffusers.ZImageControlNetModel, **sizes, **places, add_control_noise_refiner="control_layers")
    return zimage_pipeline(diffusers.ZImageControlNetPipeline, controlnet=control)


def eyes():
    """What FramePack and HunyuanVideo-1.5 look at a start picture with."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 12, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = SiglipVisionModel(SiglipVisionConfig(**sizes, image_size=8, patch_size=4)).eval()
    return {"image_encoder": model, "feature_extractor": SiglipImageProcessorPil(size={"height": 8, "width": 8})}


def framepack_pipeline():
    pipe = hunyuan_video_pipeline(diffusers.HunyuanVideoFramepackPipeline, framepack(), **eyes())
    pipe.scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    return pipe


def skyreels_pipeline():
    return hunyuan_video_pipeline(
        diffusers.HunyuanSkyreelsImageToVideoPipeline, hunyuan_video(in_channels=8, guidance_embeds=False)
    )


def from_a_picture():
    return hunyuan_video15_pipeline(None, diffusers.HunyuanVideo15ImageToVideoPipeline, **eyes())


STILL = {"image": picture(32, 48)}
FRAMEPACK = {**CLIP, **STILL, "latent_window_size": 2}
FROM_A_PICTURE = {**LATENT, "num_frames": 5, "image": Image.new("RGB", (48, 32))}
MASKED = {**STILL, "mask_image": torch.ones(1, 1, 32, 48)}
Z_IMAGE = {**LATENT, "guidance_scale": 0.0, "max_sequence_length": 64, "height": 32, "width": 48}
VARIANTS = [
    Variant("z_image from a picture", partial(zimage_pipeline, diffusers.ZImageImg2ImgPipeline), {**Z_IMAGE, **STILL}),
    Variant("z_image inpaint", partial(zimage_pipeline, diffusers.ZImageInpaintPipeline), {**Z_IMAGE, **MASKED}),
    Variant("z_image controlnet", with_controlnet, {**Z_IMAGE, "control_image": picture(32, 48)}),
    Variant("hunyuan_image distilled", hunyuan_image_pipeline, {**LATENT, "height": 128, "width": 192}),
    Variant("hunyuan_video15 i2v", from_a_picture, FROM_A_PICTURE),
    Variant("skyreels", skyreels_pipeline, {**CLIP, **STILL, "guidance_scale": 1.0, "true_cfg_scale": 1.0}),
]
PIPELINES.append(
    PipelineCase(
        name="framepack",
        build=framepack_pipeline,
        settings=FRAMEPACK,
        text=read_behind_template,
        special=[False, False, True],
        compiles_once=False,
        cfg={"true_cfg_scale": 3.0, "negative_prompt": "ugly"},
    )
)
