"""Wan Animate, a picture that moves as a video does, from a few thousand random weights."""

import torch
from diffusers import WanAnimateTransformer3DModel
from PIL import Image

from families.harness import Case, PipelineCase, noise
from families.models import tiny_wan
from families.models.tiny_unet_pipelines import remade
from support import tiny_pipelines as tiny


def transformer():
    sizes = {"num_attention_heads": 2, "attention_head_dim": 12, "num_layers": 2, "ffn_dim": 32, "freq_dim": 32}
    dims = {"in_channels": 36, "latent_channels": 16, "text_dim": 32, "image_dim": 16, "added_kv_proj_dim": 24}
    motion = {"motion_encoder_channel_sizes": {"4": 16, "8": 16, "16": 16}, "motion_encoder_size": 16}
    motion |= {"motion_style_dim": 8, "motion_dim": 4, "motion_encoder_dim": 16, "inject_face_latents_blocks": 2}
    face = {"face_encoder_hidden_dim": 16, "face_encoder_num_heads": 2}
    torch.manual_seed(0)
    model = WanAnimateTransformer3DModel(**sizes, **dims, **motion, **face, rope_max_seq_len=32)
    return tiny.without_silent_parts(model.eval())


def inputs(text):
    """The picture that moves stands before the frames, which the poses are of."""
    rows = len(text)
    given = {
        "hidden_states": noise(1, 36, 3, 4, 6),
        "pose_hidden_states": noise(1, 16, 2, 4, 6, seed=2),
        "face_pixel_values": noise(1, 3, 5, 16, 16, seed=3),
    }
    given = {name: tensor.expand(rows, -1, -1, -1, -1) for name, tensor in given.items()}
    return {**tiny_wan.image_inputs(text), **given}


def pipeline():
    return remade(tiny_wan.image_pipeline, "WanAnimatePipeline", transformer=transformer())


FACE = Image.new("RGB", (16, 16), (30, 200, 30))
SETTINGS = {name: tiny_wan.SETTINGS[name] for name in ("height", "width", "num_inference_steps", "output_type")}
SETTINGS |= {"image": tiny_wan.FRAME, "pose_video": [tiny_wan.FRAME] * 5, "face_video": [FACE] * 5}

CASES = [
    Case(
        "wan",
        transformer,
        inputs,
        channels=32,
        layers=tiny_wan.LAYERS,
        grid=(3, 2, 3),
        name="wan animate",
        positive=512,
        negative=512,
    )
]

PIPELINES = [
    PipelineCase(
        "wan animate",
        pipeline,
        {**SETTINGS, "segment_frame_length": 5},
        text=tiny_wan.unpadded,
        special=tiny_wan.MARKS,
        compiles_once=False,
        cfg={"guidance_scale": 3.0, "negative_prompt": "ugly"},
    )
]
