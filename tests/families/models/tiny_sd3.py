"""Stable Diffusion 3: its tests proper are in test_sd3.py."""

import torch

from families.harness import Case, PipelineCase, noise
from support import tiny_pipelines as tiny
from support.lockstep_oracle import unpadded_text


def inputs(text):
    rows = len(text)
    return {
        "hidden_states": noise(1, 4, 4, 6).expand(rows, -1, -1, -1),
        "encoder_hidden_states": text,
        "pooled_projections": noise(1, 32).expand(rows, -1),
        "timestep": torch.full((rows,), 500.0),
    }


CASES = [
    Case(
        family="sd3",
        model=tiny.sd3_transformer,
        inputs=inputs,
        channels=32,
        layers={r"transformer_blocks\.\d+\.attn": ("image", "text")},
        grid=(4, 6),
    )
]

PIPELINES = [
    PipelineCase(
        name="sd3",
        build=tiny.sd3,
        settings=tiny.SETTINGS,
        text=lambda pipe, text: unpadded_text(pipe, text)[0],
        special=[True, False, False, True, False, False, False, True],  # CLIP: begin, a, b, end; T5: "▁", a, b, end
        encoders=("text_encoder", "text_encoder_2", "text_encoder_3"),
        latents=(4, 8, 8),
        cfg={"guidance_scale": 3.0},
        unconditional=(True, False),
    )
]
