"""ConsisID from a few thousand random weights."""

import diffusers

from families.harness import Case, PipelineCase, noise, picture
from families.models.tiny_joint import (
    FIRST,
    STEPS,
    T5,
    T5_MARKS,
    built,
    cogvideox_inputs,
    cogvideox_vae,
    piped,
    unpadded_t5,
)
from support import host


def transformer(**changes):
    sizes = {"num_attention_heads": 2, "attention_head_dim": 48, "in_channels": 4, "out_channels": 4, "num_layers": 2}
    dims = {"time_embed_dim": 2, "text_embed_dim": 32, "patch_size": 2, "temporal_compression_ratio": 4}
    video = {"sample_height": 8, "sample_width": 12, "sample_frames": 5, "max_text_seq_length": 12}
    cross = {"cross_attn_interval": 1, "cross_attn_dim_head": 8, "cross_attn_num_heads": 2}
    face = {"LFE_id_dim": 8, "LFE_vit_dim": 8, "LFE_depth": 2, "LFE_dim_head": 4, "LFE_num_heads": 2}
    face |= {"LFE_num_querie": 3, "LFE_output_dim": 64, "LFE_num_scale": 2}
    flags = {"is_train_face": True, "use_rotary_positional_embeddings": True}
    made = {**sizes, **dims, **video, **cross, **face, **flags, **changes}
    return built(diffusers.ConsisIDTransformer3DModel, **made)


def face(rows):
    return {
        "id_cond": noise(1, 8).expand(rows, -1),
        "id_vit_hidden": [noise(1, 5, 8, seed=scale).expand(rows, -1, -1) for scale in range(2)],
    }


def inputs(text):
    turns = noise(48, 48)
    return {**cogvideox_inputs(text), **face(len(text)), "image_rotary_emb": (turns.cos(), turns.sin())}


def pipeline():
    model = transformer(in_channels=8, max_text_seq_length=24, sample_height=4, sample_width=6)
    return piped(host.ConsisIDPipeline, model, cogvideox_vae(), diffusers.CogVideoXDDIMScheduler(), T5)


CASES = [Case("consisid", transformer, inputs, 32, FIRST, (2, 4, 6))]

SIZE = {"height": 32, "width": 48, "num_frames": 5, "max_sequence_length": 24}

PIPELINES = [
    PipelineCase(
        "consisid",
        pipeline,
        {**STEPS, **SIZE, **face(1), "image": picture(32, 48)},
        text=unpadded_t5,
        special=T5_MARKS,
    )
]
