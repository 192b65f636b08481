"""AnyFlow from a few thousand random weights."""

import torch

from families.harness import Case, PipelineCase, noise, quiet
from families.models.tiny_masked import CFG
from families.models.tiny_wan import LAYERS, MARKS, SETTINGS, TEXT, autoencoder, umt5, unpadded
from families.models.tiny_wan import transformer as wan
from support import host
from support import tiny_pipelines as tiny


def transformer():
    return wan(host.AnyFlowTransformer3DModel)


def inputs(text):
    rows = len(text)
    return {
        "hidden_states": noise(1, 2, 16, 4, 6).expand(rows, -1, -1, -1, -1),
        "encoder_hidden_states": text,
        "timestep": torch.full((rows, 2), 500.0),
        "r_timestep": torch.full((rows, 2), 250.0),
    }


def pipeline():
    return quiet(
        host.AnyFlowPipeline(
            transformer=transformer(),
            scheduler=host.FlowMapEulerDiscreteScheduler(),
            vae=autoencoder(),
            text_encoder=umt5(),
            tokenizer=tiny.t5_tokenizer(),
        )
    )


CASES = [Case("anyflow", transformer, inputs, 32, LAYERS, (2, 2, 3))]

PIPELINES = [
    PipelineCase(
        "anyflow",
        pipeline,
        {**SETTINGS, **TEXT},
        text=unpadded,
        special=MARKS,
        latents=(16, 2, 4, 6),
        cfg=CFG,
        unconditional=(True, False),
        copies="num_videos_per_prompt",
    )
]
