"""DreamLite from a few thousand random weights."""

import diffusers
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from PIL import Image

from families.harness import Case, PipelineCase, Variant, noise, quiet
from families.models import chat_models as chat
from families.models.tiny_joint import built
from families.models.tiny_masked import filled
from support.lockstep_oracle import CROSS


def unet():
    down = ("DreamLiteCrossAttnNoSelfAttnDownBlock2D", "DreamLiteCrossAttnDownBlock2D")
    up = ("DreamLiteCrossAttnUpBlock2D", "DreamLiteCrossAttnNoSelfAttnUpBlock2D")
    sizes = {"block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 2, "attention_head_dim": 2}
    text = {"cross_attention_dim": 16, "encoder_hid_dim": 16, "encoder_hid_dim_type": "text_proj_rms"}
    time = {"addition_embed_type": "time", "addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 16}
    blocks = {"down_block_types": down, "up_block_types": up, "transformer_layers_per_block": 1}
    return built(diffusers.DreamLiteUNetModel, **sizes, **text, **time, **blocks, use_linear_projection=True)


def inputs(text):
    rows = len(text)
    return {
        "sample": noise(1, 4, 4, 12).expand(rows, -1, -1, -1),
        "timestep": torch.full((rows,), 500.0),
        "encoder_hidden_states": text,
        "encoder_attention_mask": filled(text).long(),
        "added_cond_kwargs": {"time_ids": torch.full((rows, 2), 64.0)},
    }


def autoencoder():
    torch.manual_seed(0)
    blocks = {"encoder_block_out_channels": (4,) * 4, "decoder_block_out_channels": (4,) * 4}
    counts = {"num_encoder_blocks": (1,) * 4, "num_decoder_blocks": (1,) * 4}
    return diffusers.AutoencoderTiny(**blocks, **counts).eval()


def pipeline(cls=diffusers.DreamLitePipeline):
    parts = {"unet": unet(), "vae": autoencoder(), "scheduler": FlowMatchEulerDiscreteScheduler(), "processor": None}
    pipe = cls(**parts, text_encoder=chat.qwen3(), tokenizer=None)
    frame = pipe.prompt_template_encode_generate.partition("{}")[0]
    pipe.register_modules(tokenizer=chat.tokenizer(frame, pipe.prompt_template_encode_generate_start_idx))
    pipe.processor = Reader(pipe)
    return quiet(pipe)


class Reader:
    """Stands for the processor, which reads a picture too: the text alone, with marks for as many tokens as it cuts."""

    def __init__(self, pipe):
        self.tokenizer, self.cut = pipe.tokenizer, pipe.prompt_template_encode_edit_start_idx

    def __call__(self, text, images, padding, return_tensors):
        marked = ["<|im_start|>" * self.cut + each.partition("<|image_pad|>")[2] for each in text]
        return self.tokenizer(text=marked, padding=padding, return_tensors=return_tensors)


def chatted(pipe, text):
    ids = torch.tensor([pipe.tokenizer(pipe.prompt_template_encode_generate.format(text)).input_ids])
    states = pipe.text_encoder(ids, output_hidden_states=True).hidden_states[-1]
    return states[0, pipe.prompt_template_encode_generate_start_idx :]


CASES = [Case("dreamlite", unet, inputs, 16, {r".*\.attn2": CROSS}, grid=None)]

BEHIND = len("<\n<assistant\n")  # tokens: a mark, here "<", is one
SETTINGS = {"height": 32, "width": 48, "num_inference_steps": 2, "output_type": "latent"}
ENCODED = {"text": chatted, "special": [False, False] + [True] * BEHIND, "denoiser": "unet"}
ENCODED["compiles_once"] = False  # the test's negatives, 19 and 16 tokens, are filled up to different lengths
PICTURE = Image.new("RGB", (48, 32), (200, 30, 30))

PIPELINES = [
    PipelineCase("dreamlite", pipeline, SETTINGS, **ENCODED, cfg={}, unconditional=(True, False)),
    PipelineCase(
        "dreamlite edit",
        pipeline,
        {**SETTINGS, "image": PICTURE},
        **ENCODED,
        cfg={},
        unconditional=(True, True, False),
    ),
    PipelineCase("dreamlite mobile", lambda: pipeline(diffusers.DreamLiteMobilePipeline), SETTINGS, **ENCODED),
]

VARIANTS = [
    Variant(
        "dreamlite mobile edit",
        lambda: pipeline(diffusers.DreamLiteMobilePipeline),
        {**SETTINGS, "image": PICTURE},
    )
]
