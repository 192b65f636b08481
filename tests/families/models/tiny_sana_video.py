"""Sana-Video from a few thousand random weights."""

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from PIL import Image

from families.harness import Case, PipelineCase, Variant, noise, quiet
from families.models import chat_models as chat
from families.models import tiny_masked, tiny_wan
from families.models.tiny_unet_pipelines import remade
from support import host
from support import tiny_pipelines as tiny
from support.lockstep_oracle import CROSS


def transformer():
    sizes = {"in_channels": 16, "out_channels": 16, "num_attention_heads": 2, "attention_head_dim": 12, "num_layers": 2}
    cross = {"num_cross_attention_heads": 2, "cross_attention_head_dim": 12, "cross_attention_dim": 24}
    dims = {"caption_channels": 24, "sample_size": 8, "patch_size": (1, 2, 2), "rope_max_seq_len": 32}
    torch.manual_seed(0)
    model = host.SanaVideoTransformer3DModel(**sizes, **cross, **dims, qk_norm="rms_norm_across_heads")
    return tiny.without_silent_parts(model.eval())


def inputs(text):
    rows = len(text)
    return {
        "hidden_states": noise(1, 16, 2, 4, 6).expand(rows, -1, -1, -1, -1),
        "encoder_hidden_states": text,
        "timestep": torch.full((rows,), 500.0),
        "encoder_attention_mask": tiny_masked.filled(text),
    }


def pipeline():
    return quiet(
        host.SanaVideoPipeline(
            transformer=transformer(),
            scheduler=FlowMatchEulerDiscreteScheduler(),
            vae=tiny_wan.autoencoder(),
            text_encoder=chat.gemma2(),
            tokenizer=chat.tokenizer(),
        )
    )


SIZE = {"height": 32, "width": 64, "frames": 5, "use_resolution_binning": False, "complex_human_instruction": None}

CASES = [Case("sana_video", transformer, inputs, 24, {r"transformer_blocks\.\d+\.attn2": CROSS}, (2, 2, 3))]

PIPELINES = [
    PipelineCase(
        "sana_video",
        pipeline,
        {**SIZE, **tiny_masked.ALONE},
        text=tiny_masked.gemma,
        special=[False, False],
        knows_characters=False,
        cfg=tiny_masked.CFG,
        unconditional=(True, False),
        copies="num_videos_per_prompt",
        latents=(16, 2, 4, 8),
        prompts=("a red car", "two birds"),
    )
]

VARIANTS = [
    Variant(
        "SanaImageToVideoPipeline",
        lambda: remade(pipeline, "SanaImageToVideoPipeline"),
        {**SIZE, **tiny_masked.ALONE, "image": Image.new("RGB", (64, 32), (200, 30, 30))},
    )
]
