"""Motif-Video from a few thousand random weights."""

import diffusers
import torch
from diffusers import ClassifierFreeGuidance, FlowMatchEulerDiscreteScheduler

from families.harness import Case, PipelineCase, noise, quiet
from families.models import tiny_wan
from families.models.tiny_joint import T5_MARKS, built
from families.models.tiny_masked import filled
from support import tiny_pipelines as tiny
from support.lockstep_oracle import CROSS


def transformer(channels=16):
    """With a layer for the text alone beside every joint one, and a last block that sees no text."""
    sizes = {"in_channels": channels, "out_channels": 16, "num_attention_heads": 2, "attention_head_dim": 12}
    counts = {"num_layers": 1, "num_single_layers": 2, "num_decoder_layers": 1, "text_embed_dim": 32}
    cross = {"enable_text_cross_attention_dual": True, "enable_text_cross_attention_single": True}
    return built(diffusers.MotifVideoTransformer3DModel, **sizes, **counts, **cross, rope_axes_dim=(4, 4, 4))


def inputs(text):
    rows = len(text)
    return {
        "hidden_states": noise(1, 16, 2, 4, 6).expand(rows, -1, -1, -1, -1),
        "encoder_hidden_states": text,
        "encoder_attention_mask": filled(text),
        "timestep": torch.full((rows,), 500.0),
    }


def pipeline(scale=1.0):
    return quiet(
        diffusers.MotifVideoPipeline(
            transformer=transformer(33),  # a first frame and its mask would stand beside the latents
            scheduler=FlowMatchEulerDiscreteScheduler(),
            vae=tiny_wan.autoencoder(),
            text_encoder=tiny.t5_encoder(),
            tokenizer=tiny.t5_tokenizer(),
            guider=ClassifierFreeGuidance(guidance_scale=scale),
        )
    )


JOINT = r"(transformer_blocks|single_transformer_blocks)\.0\.attn"
ALONE = r"(transformer_blocks|single_transformer_blocks)\.0\.cross_attn"

CASES = [Case("motif_video", transformer, inputs, 32, {JOINT: ("image", "text"), ALONE: CROSS}, (2, 2, 3))]

SETTINGS = {"height": 32, "width": 48, "num_frames": 5, "num_inference_steps": 2, "output_type": "latent"}
SETTINGS |= {"max_sequence_length": 24, "negative_prompt": "ugly"}
ENCODED = {"text": tiny_wan.unpadded, "special": T5_MARKS, "knows_characters": False}

PIPELINES = [
    PipelineCase(
        "motif_video",
        pipeline,
        SETTINGS,
        **ENCODED,
        latents=(16, 2, 4, 6),
        copies="num_videos_per_prompt",
    ),
    PipelineCase("motif_video with guidance", lambda: pipeline(3.0), SETTINGS, **ENCODED, cfg={}),
]
