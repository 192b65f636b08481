"""Cosmos 1, 2 and 2.5 from a few thousand random weights."""

from functools import partial

import diffusers
import torch
from diffusers import (
    AutoencoderKLCosmos,
    ConfigMixin,
    CosmosTransformer3DModel,
    EDMEulerScheduler,
    FlowMatchEulerDiscreteScheduler,
    ModelMixin,
    UniPCMultistepScheduler,
)
from PIL import Image
from torch import nn

from families.harness import Case, PipelineCase, Variant, noise, quiet
from families.models import chat_models as chat
from families.models.tiny_wan import autoencoder
from support import tiny_pipelines as tiny
from support.lockstep_oracle import CROSS

IMAGE_TOKENS, IMAGE_CHANNELS = 5, 8


def transformer(**changes):
    """Without the mask over the picture's padding, which the stock model resizes with torchvision."""
    sizes = {"num_attention_heads": 2, "attention_head_dim": 12, "num_layers": 2, "max_size": (4, 24, 24)}
    dims = {"in_channels": 4, "out_channels": 4, "text_embed_dim": 32, "adaln_lora_dim": 4, "mlp_ratio": 2}
    torch.manual_seed(0)
    model = CosmosTransformer3DModel(**{**sizes, **dims, "concat_padding_mask": False, **changes})
    return tiny.without_silent_parts(model.eval())


def transfer_transformer(**changes):
    """As Transfer 2.5 has it: text is projected first, and an image has keys of its own in the same layers."""
    image = {"img_context_dim_in": IMAGE_CHANNELS, "img_context_num_tokens": IMAGE_TOKENS, "img_context_dim_out": 24}
    text = {"use_crossattn_projection": True, "crossattn_proj_in_channels": 32, "encoder_hidden_states_channels": 32}
    return transformer(**{**image, **text, "extra_pos_embed_type": None, "controlnet_block_every_n": 2, **changes})


def inputs(text, frames=2):
    rows = len(text)
    return {
        "hidden_states": noise(1, 4, frames, 4, 6).expand(rows, -1, -1, -1, -1),
        "encoder_hidden_states": text,
        "timestep": torch.full((rows,), 0.5),
    }


def masked_inputs(text):
    """What a text has beyond ten tokens is hidden, and each frame has a time of its own."""
    rows, tokens, _ = text.shape
    mask = (torch.arange(tokens) < 10).expand(rows, -1)
    times = torch.tensor([0.2, 0.5]).reshape(1, 1, 2, 1, 1).expand(rows, -1, -1, -1, -1)
    return {**inputs(text), "attention_mask": mask, "timestep": times}


def transfer_inputs(text, tokens=IMAGE_TOKENS):
    image = noise(1, tokens, IMAGE_CHANNELS, seed=2).expand(len(text), -1, -1)
    return {**inputs(text), "encoder_hidden_states": (text, image)}


class Guardrail:
    """Stands in for the checker of texts and videos that these pipelines insist on."""

    def to(self, device):
        return self

    def check_text_safety(self, text):
        return True


class Control(ModelMixin, ConfigMixin):
    """Stands in for the ControlNet, which needs torchvision: the same residual for every token, whatever the text."""

    def __init__(self):
        super().__init__()
        self.residual = nn.Parameter(noise(1, 1, 24, seed=4))

    def forward(self, **arguments):
        return ([self.residual],)


def karras():
    return FlowMatchEulerDiscreteScheduler(use_karras_sigmas=True)


def pipeline(name, scheduler=karras, vae=autoencoder, model=None, **extra):
    parts = {"text_encoder": tiny.t5_encoder(), "tokenizer": tiny.t5_tokenizer(), **extra}
    model = transformer(in_channels=16, out_channels=16) if model is None else model
    cls = getattr(diffusers, name)
    return quiet(cls(transformer=model, scheduler=scheduler(), vae=vae(), safety_checker=Guardrail(), **parts))


def cosmos1_autoencoder():
    torch.manual_seed(0)
    blocks = {"encoder_block_out_channels": (4, 4, 4, 4), "decode_block_out_channels": (4, 4, 4, 4)}
    return AutoencoderKLCosmos(**blocks, latent_channels=16, attention_resolutions=(), num_layers=1).eval()


cosmos1 = partial(pipeline, scheduler=EDMEulerScheduler, vae=cosmos1_autoencoder)


def with_masked_frames():
    """A transformer that is told in a further channel which frames are given."""
    return transformer(in_channels=17, out_channels=16)


def chat_pipeline(name="Cosmos2_5_PredictBasePipeline", model=None, **extra):
    parts = {"text_encoder": chat.qwen25_vl(layers=2), "tokenizer": chat.tokenizer(OPENING, BEFORE)}
    model = transformer(in_channels=17, out_channels=16) if model is None else model
    return pipeline(name, partial(UniPCMultistepScheduler, **FLOW), model=model, **parts, **extra)


def transfer():
    model = transfer_transformer(in_channels=17, out_channels=16)
    return chat_pipeline("Cosmos2_5_TransferPipeline", model, controlnet=Control())


def unpadded(pipe, text):
    return pipe.text_encoder(torch.tensor([pipe.tokenizer(text).input_ids]))[0][0]


def chatted(pipe, text):
    """All layers of the encoder but the first, each token's numbers brought to mean 0 and deviation 1."""
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}]
    ids = pipe.tokenizer(pipe.tokenizer.apply_chat_template(messages, tokenize=False)).input_ids
    states = pipe.text_encoder(torch.tensor([ids]), output_hidden_states=True).hidden_states[1:]
    return torch.cat([standardized(state[0]) for state in states], 1)


def standardized(rows):
    return (rows - rows.mean(-1, keepdim=True)) / (rows.std(-1, keepdim=True) + 1e-8)


SYSTEM = "You are a helpful assistant who will provide prompts to an image generator."
OPENING = f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n"
BEFORE = 6  # tokens of that: the tokenizer is given one for each piece
FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 1.0}
LAYERS = {r"transformer_blocks\.\d+\.attn2": CROSS}
SIZE = {"height": 32, "width": 48, "num_inference_steps": 2, "output_type": "latent", "guidance_scale": 1.0}
SETTINGS = {**SIZE, "num_frames": 5}
TEXT = {"max_sequence_length": 24}
CHAT = {**SETTINGS, "max_sequence_length": 32}
FRAME = Image.new("RGB", (48, 32), (200, 30, 30))
MARKS = [False, False, False, True]  # "▁", a, b, end

CASES = [
    Case("cosmos", transformer, inputs, channels=32, layers=LAYERS, grid=(2, 2, 3)),
    Case("cosmos", transformer, masked_inputs, channels=32, layers=LAYERS, grid=(2, 2, 3), name="cosmos with a mask"),
    Case(
        "cosmos",
        transfer_transformer,
        transfer_inputs,
        channels=32,
        layers=LAYERS,
        grid=(2, 2, 3),
        name="cosmos transfer",
    ),
]

PIPELINES = [
    PipelineCase(
        name="cosmos 2",
        build=partial(pipeline, "Cosmos2TextToImagePipeline"),
        settings={**SIZE, **TEXT},
        text=unpadded,
        special=MARKS,
        latents=(16, 1, 4, 6),
        cfg={"guidance_scale": 3.0, "negative_prompt": "ugly"},
    ),
    PipelineCase(
        name="cosmos 2.5",
        build=chat_pipeline,
        settings=CHAT,
        text=chatted,
        special=[True] * BEFORE + [False, False] + [True] * len("|\n"),
        latents=(16, 2, 4, 6),
        cfg={"guidance_scale": 3.0, "negative_prompt": "ugly"},
        copies="",
    ),
]

VARIANTS = [
    Variant("cosmos 1", partial(cosmos1, "CosmosTextToWorldPipeline"), {**SETTINGS, **TEXT, "num_frames": 9}),
    Variant(
        "cosmos 1 video to world",
        partial(cosmos1, "CosmosVideoToWorldPipeline", model=with_masked_frames()),
        {**SETTINGS, **TEXT, "num_frames": 9, "image": FRAME},
    ),
    Variant(
        "cosmos 2 video to world",
        partial(pipeline, "Cosmos2VideoToWorldPipeline", model=with_masked_frames()),
        {**SETTINGS, **TEXT, "image": FRAME},
    ),
    Variant("cosmos 2.5 transfer", transfer, {**CHAT, "num_frames_per_chunk": 5, "controls": [FRAME] * 5}),
]
