"""Anima from a few thousand random weights."""

from functools import partial

import torch
from diffusers import AnimaTextConditioner, ClassifierFreeGuidance, FlowMatchEulerDiscreteScheduler, modular_pipelines

from families.harness import Case, PipelineCase, Variant, picture, quiet
from families.models import chat_models as chat
from families.models.tiny_cosmos import LAYERS, MARKS, inputs, transformer
from families.models.tiny_wan import autoencoder
from support import tiny_pipelines as tiny


def conditioner():
    sizes = {"source_dim": 16, "target_dim": 32, "model_dim": 16, "num_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    model = AnimaTextConditioner(**sizes, target_vocab_size=128, min_sequence_length=24)
    return tiny.without_silent_parts(model.eval())


def pipeline(guider=None):
    """Without classifier-free guidance by default, as it runs with few steps."""
    pipe = modular_pipelines.AnimaAutoBlocks().init_pipeline()
    pipe.update_components(
        transformer=transformer(in_channels=16, out_channels=16),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=autoencoder(),
        text_encoder=chat.qwen3(),
        tokenizer=chat.tokenizer(),
        t5_tokenizer=tiny.t5_tokenizer(),
        text_conditioner=conditioner(),
        guider=guider or ClassifierFreeGuidance(guidance_scale=1.0),
    )
    return quiet(pipe)


def conditioned(pipe, text):
    states = pipe.text_encoder(torch.tensor([pipe.tokenizer(text).input_ids]))[0]
    ids = torch.tensor([pipe.t5_tokenizer(text).input_ids])
    return pipe.text_conditioner(states, ids)[0, : ids.shape[1]]


SETTINGS = {"height": 32, "width": 48, "num_inference_steps": 2, "output": "latents"}

CASES = [Case("anima", transformer, partial(inputs, frames=1), channels=32, layers=LAYERS, grid=(2, 3))]

PIPELINES = [
    PipelineCase(
        name="anima",
        build=pipeline,
        settings=SETTINGS,
        text=conditioned,
        special=MARKS,
        encoders=("text_encoder", "text_conditioner"),
        latents=(16, 1, 4, 6),
    )
]

VARIANTS = [Variant("anima image to image", pipeline, {**SETTINGS, "image": picture(32, 48), "strength": 1.0})]
