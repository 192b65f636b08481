"""Helios from a few thousand random weights."""

import torch

from families.harness import Case, PipelineCase, Variant, noise, quiet
from families.models.tiny_wan import LAYERS, MARKS, SETTINGS, TEXT, autoencoder, umt5, unpadded
from support import host
from support import tiny_pipelines as tiny


def transformer(**changes):
    sizes = {"patch_size": (1, 2, 2), "num_attention_heads": 2, "attention_head_dim": 12, "num_layers": 2}
    dims = {"in_channels": 16, "out_channels": 16, "text_dim": 32, "freq_dim": 32, "ffn_dim": 32}
    torch.manual_seed(0)
    model = host.HeliosTransformer3DModel(**sizes, **dims, rope_dim=(4, 4, 4), **changes)
    return tiny.without_silent_parts(model.eval())


def inputs(text):
    rows = len(text)
    return {
        "hidden_states": noise(1, 16, 2, 4, 6).expand(rows, -1, -1, -1, -1),
        "encoder_hidden_states": text,
        "timestep": torch.full((rows,), 500.0),
        "indices_hidden_states": torch.arange(1, 3)[None].expand(rows, -1),
        "latents_history_short": noise(1, 16, 1, 4, 6, seed=2).expand(rows, -1, -1, -1, -1),
        "indices_latents_history_short": torch.zeros(rows, 1, dtype=torch.long),
    }


def pipeline(cls=host.HeliosPipeline, stages=1, **extra):
    return quiet(
        cls(
            transformer=transformer(),
            scheduler=host.HeliosScheduler(stages=stages, scheduler_type="euler"),
            vae=autoencoder(),
            text_encoder=umt5(),
            tokenizer=tiny.t5_tokenizer(),
            **extra,
        )
    )


CASES = [Case("helios", transformer, inputs, 32, LAYERS, (2, 2, 3))]

PIECE = {"num_latent_frames_per_chunk": 2, "history_sizes": [2, 2, 1]}

PIPELINES = [
    PipelineCase(
        "helios",
        pipeline,
        {**SETTINGS, **TEXT, **PIECE},
        text=unpadded,
        special=MARKS,
        cfg={"guidance_scale": 3.0, "negative_prompt": "ugly"},
    )
]

SIZES = {**SETTINGS, **TEXT, **PIECE, "height": 64, "width": 128, "pyramid_num_inference_steps_list": [1, 1, 1]}
del SIZES["num_inference_steps"]

VARIANTS = [Variant("HeliosPyramidPipeline", lambda: pipeline(host.HeliosPyramidPipeline, stages=3), SIZES)]
