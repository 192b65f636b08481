"""EasyAnimate from a few thousand random weights."""

from functools import partial

import diffusers
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from families.harness import Case, PipelineCase, Variant, noise
from families.models import chat_models as chat
from families.models.tiny_joint import FIRST, STEPS, built, piped
from families.models.tiny_masked import CFG


def transformer(**changes):
    sizes = {"num_attention_heads": 2, "attention_head_dim": 16, "in_channels": 4, "out_channels": 4, "num_layers": 2}
    dims = {"time_embed_dim": 2, "text_embed_dim": 16, "text_embed_dim_t5": None, "patch_size": 2, "mmdit_layers": 1}
    video = {"sample_height": 8, "sample_width": 12}
    return built(diffusers.EasyAnimateTransformer3DModel, **{**sizes, **dims, **video, **changes})


def inputs(text):
    rows = len(text)
    return {
        "hidden_states": noise(1, 4, 2, 8, 12).expand(rows, -1, -1, -1, -1),
        "timestep": torch.full((rows,), 500.0),
        "encoder_hidden_states": text,
    }


def autoencoder():
    torch.manual_seed(0)
    sizes = {"block_out_channels": (4,) * 4, "layers_per_block": 1, "norm_num_groups": 2, "latent_channels": 4}
    return diffusers.AutoencoderKLMagvit(**sizes).eval()


def pipeline(cls=diffusers.EasyAnimatePipeline, **changes):
    texts = {"text_encoder": chat.llama, "tokenizer": chat.tokenizer}
    scheduler = FlowMatchEulerDiscreteScheduler()
    return piped(cls, transformer(**changes), autoencoder(), scheduler, texts)


def chatted(pipe, text):
    frame = f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
    ids = torch.tensor([pipe.tokenizer(frame).input_ids])
    return pipe.text_encoder(ids, output_hidden_states=True).hidden_states[-2][0]


BEFORE, BEHIND = len("<user\n"), len("<\n<assistant\n")  # tokens: a mark, here "<", is one

CASES = [Case("easyanimate", transformer, inputs, 16, FIRST, (2, 4, 6))]

SETTINGS = {**STEPS, "height": 32, "width": 48, "num_frames": 5}

PIPELINES = [
    PipelineCase(
        "easyanimate",
        pipeline,
        SETTINGS,
        text=chatted,
        special=[True] * BEFORE + [False, False] + [True] * BEHIND,
        latents=(4, 2, 4, 6),
        cfg=CFG,
        unconditional=(True, False),
    )
]

WIDER = {"in_channels": 9, "resize_inpaint_mask_directly": True}  # mask and picture stand beside the latents
inpainting = partial(pipeline, diffusers.EasyAnimateInpaintPipeline, **WIDER)

VARIANTS = [Variant("EasyAnimateInpaintPipeline", inpainting, SETTINGS)]
