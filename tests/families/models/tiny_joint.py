"""The other families whose negatives are joined to the text, from a few thousand random weights."""

from functools import partial

import diffusers
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from families.harness import Case, PipelineCase, Variant, noise, picture, quiet
from families.models import chat_models as chat
from families.models import tiny_flux
from support import tiny_pipelines as tiny


def built(cls, **sizes):
    torch.manual_seed(0)
    return tiny.without_silent_parts(cls(**sizes).eval())


def unpadded_t5(pipe, text):
    return pipe.text_encoder(torch.tensor([pipe.tokenizer(text).input_ids]))[0][0]


T5 = {"text_encoder": tiny.t5_encoder, "tokenizer": tiny.t5_tokenizer}
T5_MARKS = [False, False, False, True]  # "▁", a, b, end
STEPS = {"num_inference_steps": 2, "output_type": "latent", "guidance_scale": 0.0}


def piped(cls, model, vae, scheduler, encoders, **extra):
    texts = {name: make() for name, make in encoders.items()}
    return quiet(cls(transformer=model, vae=vae, scheduler=scheduler, **texts, **extra))


# Chroma -----------------------------------------------------------------------------------------------------------


def chroma():
    sizes = {"patch_size": 1, "in_channels": 4, "num_layers": 2, "num_single_layers": 2, "attention_head_dim": 16}
    dims = {"num_attention_heads": 2, "joint_attention_dim": 32, "axes_dims_rope": [4, 4, 8]}
    small = {"approximator_num_channels": 8, "approximator_hidden_dim": 16, "approximator_layers": 1}
    return built(diffusers.ChromaTransformer2DModel, **sizes, **dims, **small)


def chroma_inputs(text):
    """What a text has beyond ten tokens is padding, which Chroma's mask only makes less of.

    Pipelines have ones for the image; other numbers show that they stay with it.
    """
    given = tiny_flux.inputs(text)
    del given["pooled_projections"]
    mask = torch.cat([(torch.arange(text.shape[1]) < 10).float(), torch.full((24,), 0.5)])
    return {**given, "attention_mask": mask.expand(len(text), -1)}


def chroma_pipeline(cls=diffusers.ChromaPipeline, **extra):
    return piped(cls, chroma(), tiny.autoencoder(1), FlowMatchEulerDiscreteScheduler(), T5, **extra)


# AuraFlow ---------------------------------------------------------------------------------------------------------


def auraflow():
    sizes = {"sample_size": 8, "patch_size": 2, "in_channels": 4, "num_mmdit_layers": 1, "num_single_dit_layers": 2}
    dims = {"attention_head_dim": 8, "num_attention_heads": 4, "caption_projection_dim": 32, "joint_attention_dim": 32}
    model = built(diffusers.AuraFlowTransformer2DModel, **sizes, **dims, out_channels=4, pos_embed_max_size=64)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(2)  # at their first size its gates let next to nothing through
    return model


def auraflow_inputs(text):
    rows = len(text)
    latents = noise(1, 4, 8, 12).expand(rows, -1, -1, -1)
    return {"hidden_states": latents, "encoder_hidden_states": text, "timestep": torch.full((rows,), 0.5)}


def auraflow_pipeline():
    vae = tiny.autoencoder(4)
    return piped(diffusers.AuraFlowPipeline, auraflow(), vae, FlowMatchEulerDiscreteScheduler(), T5)


# CogVideoX --------------------------------------------------------------------------------------------------------


def cogvideox(**changes):
    sizes = {"num_attention_heads": 2, "attention_head_dim": 16, "in_channels": 4, "out_channels": 4, "num_layers": 2}
    dims = {"time_embed_dim": 2, "text_embed_dim": 32, "patch_size": 2, "temporal_compression_ratio": 4}
    video = {"sample_height": 8, "sample_width": 12, "sample_frames": 5, "max_text_seq_length": 12}
    rope = {"use_rotary_positional_embeddings": True}
    return built(diffusers.CogVideoXTransformer3DModel, **{**sizes, **dims, **video, **rope, **changes})


def cogvideox_with_positions():
    """As in 5b for images; random ones for the text as well, so that it shows where they go."""
    model = cogvideox(use_learned_positional_embeddings=True)
    model.patch_embed.pos_embedding.normal_(generator=torch.Generator().manual_seed(2))
    return model


def cogvideox_inputs(text):
    rows, turns = len(text), noise(48, 16)
    return {
        "hidden_states": noise(1, 2, 4, 8, 12).expand(rows, -1, -1, -1, -1),
        "encoder_hidden_states": text,
        "timestep": torch.full((rows,), 500),
        "image_rotary_emb": (turns.cos(), turns.sin()),
    }


def cogvideox_vae():
    torch.manual_seed(0)
    blocks = {"down_block_types": ("CogVideoXDownBlock3D",) * 4, "up_block_types": ("CogVideoXUpBlock3D",) * 4}
    sizes = {"block_out_channels": (8,) * 4, "latent_channels": 4, "layers_per_block": 1, "norm_num_groups": 2}
    return diffusers.AutoencoderKLCogVideoX(**blocks, **sizes, temporal_compression_ratio=4).eval()


def cogvideox_pipeline(cls=diffusers.CogVideoXPipeline, **changes):
    sizes = {"max_text_seq_length": 24, "sample_height": 4, "sample_width": 6}
    model = cogvideox(**{**sizes, **changes})
    return piped(cls, model, cogvideox_vae(), diffusers.CogVideoXDDIMScheduler(), T5)


# CogView4 ---------------------------------------------------------------------------------------------------------


def cogview4(**changes):
    sizes = {"patch_size": 2, "in_channels": 4, "num_layers": 2, "attention_head_dim": 4, "num_attention_heads": 4}
    dims = {"out_channels": 4, "text_embed_dim": 16, "time_embed_dim": 8, "condition_dim": 4}
    return built(diffusers.CogView4Transformer2DModel, **{**sizes, **dims, **changes})


def cogview4_inputs(text):
    rows = len(text)
    size = torch.full((rows, 2), 64.0)
    return {
        "hidden_states": noise(1, 4, 8, 12).expand(rows, -1, -1, -1),
        "encoder_hidden_states": text,
        "timestep": torch.full((rows,), 500),
        "original_size": size,
        "target_size": size,
        "crop_coords": 0 * size,
    }


def cogview4_pipeline(cls=diffusers.CogView4Pipeline, **changes):
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    texts = {"text_encoder": chat.llama, "tokenizer": chat.tokenizer}
    return piped(cls, cogview4(**changes), tiny.autoencoder(4), scheduler, texts)


def unpadded_glm(pipe, text):
    ids = torch.tensor([pipe.tokenizer(text).input_ids])
    return pipe.text_encoder(ids, output_hidden_states=True).hidden_states[-2][0]


FIRST = {r"(single_)?transformer_blocks\.\d+\.attn1?": ("text", "image")}
REGISTERS = {r"(joint|single)_transformer_blocks\.\d+\.attn": (("shared", 8), "text", "image")}

CASES = [
    Case("chroma", chroma, chroma_inputs, 32, FIRST, (4, 6)),
    Case("auraflow", auraflow, auraflow_inputs, 32, REGISTERS, (4, 6)),
    Case("cogvideox", cogvideox, cogvideox_inputs, 32, FIRST, (2, 4, 6)),
    Case(
        "cogvideox",
        cogvideox_with_positions,
        cogvideox_inputs,
        32,
        FIRST,
        (2, 4, 6),
        name="cogvideox with positions",
        negative=12,  # the model takes texts of one length only
    ),
    Case("cogview4", cogview4, cogview4_inputs, 16, FIRST, (4, 6)),
]

PIPELINES = [
    PipelineCase(
        name="chroma",
        build=chroma_pipeline,
        settings={**STEPS, "height": 8, "width": 12, "max_sequence_length": 24},
        text=unpadded_t5,
        special=T5_MARKS,
        latents=(24, 4),
        cfg={"guidance_scale": 3.0},
    ),
    PipelineCase(
        name="auraflow",
        build=auraflow_pipeline,
        settings={**STEPS, "height": 8, "width": 12, "max_sequence_length": 24},
        text=unpadded_t5,
        special=T5_MARKS,
        latents=(4, 8, 12),
        cfg={"guidance_scale": 3.0},
        unconditional=(True, False),
    ),
    PipelineCase(
        name="cogvideox",
        build=cogvideox_pipeline,
        settings={**STEPS, "height": 32, "width": 48, "num_frames": 5, "max_sequence_length": 24},
        text=unpadded_t5,
        special=T5_MARKS,
        latents=(2, 4, 4, 6),
        cfg={"guidance_scale": 3.0},
        unconditional=(True, False),
        copies="",  # the pipeline takes num_videos_per_prompt, and makes one
    ),
    PipelineCase(
        name="cogview4",
        build=cogview4_pipeline,
        settings={**STEPS, "height": 16, "width": 32},
        text=unpadded_glm,
        special=[False, False],
        latents=(4, 16, 32),
        cfg={"guidance_scale": 3.0, "negative_prompt": "ugly"},
        prompts=("a red car", "two  dogs"),  # of one length: a batch is filled up on one side, its rows on the other
    ),
]

SMALL = {**STEPS, "height": 8, "width": 12, "max_sequence_length": 24}
VIDEO = {**STEPS, "height": 32, "width": 48, "max_sequence_length": 24}
IMAGE = {"image": picture(8, 12), "strength": 1.0}
FRAMES = [picture(32, 48)[0]] * 5
PLAIN = {"use_rotary_positional_embeddings": False}
WIDER = {"in_channels": 8}  # image or control video stand beside the latents
CLIP, PICTURE = {"num_frames": 5}, {"image": picture(32, 48)}


def chroma_inpaint(cls):
    """It asks its transformer for a setting that it has only where the file of its configuration names it."""
    pipe = chroma_pipeline(cls)
    pipe.transformer.register_to_config(guidance_embeds=False)
    return pipe


MADE = {
    "ChromaImg2ImgPipeline": (chroma_pipeline, {**SMALL, **IMAGE}),
    "ChromaInpaintPipeline": (chroma_inpaint, {**SMALL, **IMAGE, "mask_image": torch.ones(1, 1, 8, 12)}),
    "CogVideoXPipeline": (partial(cogvideox_pipeline, **PLAIN), {**VIDEO, **CLIP}),
    "CogVideoXImageToVideoPipeline": (partial(cogvideox_pipeline, **WIDER), {**VIDEO, **CLIP, **PICTURE}),
    "CogVideoXVideoToVideoPipeline": (cogvideox_pipeline, {**VIDEO, "video": FRAMES, "strength": 1.0}),
    "CogVideoXFunControlPipeline": (partial(cogvideox_pipeline, **WIDER), {**VIDEO, "control_video": [FRAMES]}),
    "CogView4ControlPipeline": (
        partial(cogview4_pipeline, in_channels=8),
        {**STEPS, "height": 16, "width": 32, "control_image": picture(16, 32)},
    ),
}

VARIANTS = [
    Variant(name, partial(build, getattr(diffusers, name)), settings) for name, (build, settings) in MADE.items()
]
