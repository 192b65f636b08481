"""Lumina-Next from a few thousand random weights."""

import diffusers
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from families.harness import Case, PipelineCase, noise
from families.models import chat_models as chat
from families.models.tiny_joint import built, piped
from families.models.tiny_masked import ALONE, CFG, filled
from support import tiny_pipelines as tiny
from support.lockstep_oracle import CROSS


def transformer():
    sizes = {"sample_size": 8, "patch_size": 2, "in_channels": 4, "hidden_size": 16, "num_layers": 2}
    heads = {"num_attention_heads": 2, "num_kv_heads": 1, "multiple_of": 8, "cross_attention_dim": 24}
    return built(diffusers.LuminaNextDiT2DModel, **sizes, **heads)


def inputs(text):
    rows = len(text)
    turns = noise(8, 8, 4, 2)
    return {
        "hidden_states": noise(1, 4, 8, 12).expand(rows, -1, -1, -1),
        "timestep": torch.full((rows,), 0.5),
        "encoder_hidden_states": text,
        "encoder_mask": filled(text),
        "image_rotary_emb": torch.view_as_complex(turns / turns.norm(dim=-1, keepdim=True)),
        "cross_attention_kwargs": {},
    }


def pipeline():
    texts = {"text_encoder": chat.gemma2, "tokenizer": chat.tokenizer}
    scheduler = FlowMatchEulerDiscreteScheduler()
    return piped(diffusers.LuminaPipeline, transformer(), tiny.autoencoder(4), scheduler, texts)


def gemma(pipe, text):
    ids = torch.tensor([pipe.tokenizer(text).input_ids])
    return pipe.text_encoder(ids, output_hidden_states=True).hidden_states[-2][0]


CASES = [Case("lumina_next", transformer, inputs, 24, {r"layers\.\d+\.attn2": CROSS}, (4, 6))]

PIPELINES = [
    PipelineCase(
        "lumina_next",
        pipeline,
        {**ALONE, "height": 32, "width": 48},
        text=gemma,
        special=[False, False],
        knows_characters=False,
        latents=(4, 4, 6),
        cfg=CFG,
        prompts=("a red car", "two birds"),  # of one length: copies of a prompt get the mask of another one
        compiles_once=False,
    )
]
