"""Allegro from a few thousand random weights."""

import diffusers
import torch

from families.harness import Case, PipelineCase, noise, quiet
from families.models.tiny_masked import ALONE, CFG, T5_MARKS, filled, t5_without_mask
from support import tiny_pipelines as tiny
from support.lockstep_oracle import CROSS


def transformer():
    sizes = {"num_attention_heads": 2, "attention_head_dim": 12, "num_layers": 2, "cross_attention_dim": 24}
    latents = {"in_channels": 4, "out_channels": 4, "sample_height": 8, "sample_width": 8, "sample_frames": 2}
    torch.manual_seed(0)
    model = diffusers.AllegroTransformer3DModel(**sizes, **latents, caption_channels=32)
    return tiny.without_silent_parts(model.eval())


def inputs(text):
    rows = len(text)
    return {
        "hidden_states": noise(1, 4, 2, 6, 8).expand(rows, -1, -1, -1, -1),
        "encoder_hidden_states": text[:, None],
        "encoder_attention_mask": filled(text),
        "timestep": torch.full((rows,), 500.0),
    }


def autoencoder():
    torch.manual_seed(0)
    sizes = {"block_out_channels": (8,) * 4, "layers_per_block": 1, "norm_num_groups": 2}
    return diffusers.AutoencoderKLAllegro(**sizes).eval()


def pipeline():
    return quiet(
        diffusers.AllegroPipeline(
            transformer=transformer(),
            scheduler=diffusers.DDIMScheduler(),
            vae=autoencoder(),
            text_encoder=tiny.t5_encoder(),
            tokenizer=tiny.t5_tokenizer(),
        )
    )


CASES = [Case("allegro", transformer, inputs, 32, {r"transformer_blocks\.\d+\.attn2": CROSS}, (2, 3, 4))]

PIPELINES = [
    PipelineCase(
        "allegro",
        pipeline,
        {**ALONE, "height": 32, "width": 64, "num_frames": 8, "max_sequence_length": 24},
        text=t5_without_mask,
        special=T5_MARKS,
        knows_characters=False,
        cfg=CFG,
        unconditional=(True, False),
        copies="",  # the pipeline takes num_videos_per_prompt, and makes one
        latents=(4, 2, 4, 8),
        compiles_once=False,  # it asks for its own dtype, where compiled code looks for hooks once more
    )
]
