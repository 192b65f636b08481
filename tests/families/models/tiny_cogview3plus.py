"""CogView3+ from a few thousand random weights."""

import diffusers
import torch

from families.harness import Case, PipelineCase, noise
from families.models.tiny_joint import FIRST, STEPS, T5, T5_MARKS, built, piped, unpadded_t5
from families.models.tiny_masked import CFG
from support import tiny_pipelines as tiny


def transformer():
    sizes = {"patch_size": 2, "in_channels": 4, "out_channels": 4, "num_layers": 2, "pos_embed_max_size": 16}
    dims = {"attention_head_dim": 8, "num_attention_heads": 2, "text_embed_dim": 32, "time_embed_dim": 8}
    return built(diffusers.CogView3PlusTransformer2DModel, **sizes, **dims, condition_dim=4, sample_size=8)


def inputs(text):
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


def pipeline():
    scheduler = diffusers.CogVideoXDDIMScheduler()
    return piped(diffusers.CogView3PlusPipeline, transformer(), tiny.autoencoder(4), scheduler, T5)


CASES = [Case("cogview3plus", transformer, inputs, 32, FIRST, (4, 6))]

PIPELINES = [
    PipelineCase(
        "cogview3plus",
        pipeline,
        {**STEPS, "height": 8, "width": 16, "max_sequence_length": 24},
        text=unpadded_t5,
        special=T5_MARKS,
        latents=(4, 8, 16),
        cfg=CFG,
        unconditional=(True, False),
    )
]
