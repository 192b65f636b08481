"""Ideogram 4 from a few thousand random weights."""

from functools import cache

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, Ideogram4Pipeline, Ideogram4Transformer2DModel
from diffusers.pipelines.ideogram4.pipeline_ideogram4 import QWEN3_VL_ACTIVATION_LAYERS as READ_LAYERS
from transformers import Qwen3VLConfig, Qwen3VLModel

from families.harness import Case, PipelineCase, noise, quiet
from families.models import chat_models as chat
from families.models.tiny_flux2 import ANSWER, ENDING, OPENING, autoencoder, frame
from support import tiny_pipelines as tiny

FILLING = 3
CHANNELS = 16 * len(READ_LAYERS)


def transformer(seed=0):
    sizes = {"in_channels": 4, "num_layers": 2, "attention_head_dim": 16, "num_attention_heads": 2}
    more = {"intermediate_size": 32, "adaln_dim": 16, "llm_features_dim": CHANNELS, "mrope_section": (4, 2, 2)}
    torch.manual_seed(seed)
    return tiny.without_silent_parts(Ideogram4Transformer2DModel(**sizes, **more).eval())


def inputs(text):
    """[filling | text | 4 x 6 image tokens]; what is not of a token's own kind is noise that the model has to drop."""
    rows, tokens, _ = text.shape
    filled = FILLING + tokens
    image = torch.cartesian_prod(torch.tensor([0]), torch.arange(4), torch.arange(6)) + 65536
    ranks = torch.arange(tokens)[:, None].expand(-1, 3)
    positions = torch.cat([torch.zeros(FILLING, 3, dtype=torch.long), ranks, image])
    filling = noise(1, FILLING, CHANNELS).expand(rows, -1, -1)
    return {
        "hidden_states": torch.cat([torch.zeros(1, filled, 4), noise(1, 24, 4)], 1).expand(rows, -1, -1),
        "encoder_hidden_states": torch.cat([filling, text, text.new_zeros(rows, 24, CHANNELS)], 1),
        "timestep": torch.full((rows,), 0.5),
        "position_ids": positions.expand(rows, -1, -1),
        "segment_ids": torch.tensor([-1] * FILLING + [1] * (tokens + 24)).expand(rows, -1),
        "indicator": torch.tensor([0] * FILLING + [3] * tokens + [2] * 24).expand(rows, -1),
    }


@cache
def encoder():
    """As deep as the layers that the pipeline takes its text from; no test changes it."""
    torch.manual_seed(0)
    rope = {"mrope_section": [2, 1, 1], "rope_type": "default", "rope_theta": 10000.0}
    sizes = {**chat.SIZES, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 36, "head_dim": 8}
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16}
    vision["deepstack_visual_indexes"] = []
    return Qwen3VLModel(Qwen3VLConfig(text_config={**sizes, "rope_parameters": rope}, vision_config=vision)).eval()


def pipeline():
    parts = {"vae": autoencoder(), "text_encoder": encoder(), "tokenizer": chat.tokenizer()}
    models = {"transformer": transformer(), "unconditional_transformer": transformer(seed=1)}
    return quiet(Ideogram4Pipeline(scheduler=FlowMatchEulerDiscreteScheduler(), **parts, **models))


def unfilled(pipe, text):
    """What the layers of the encoder return for a chat, layer by layer within each channel."""
    messages = [{"role": "user", "content": text}]
    said = pipe.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    model = pipe.text_encoder.language_model
    outputs = []
    hooks = [layer.register_forward_hook(lambda *call: outputs.append(call[-1])) for layer in model.layers]
    model(torch.tensor([pipe.tokenizer(said).input_ids]), use_cache=False)
    for hook in hooks:
        hook.remove()
    return torch.stack([outputs[layer][0] for layer in READ_LAYERS], -1).flatten(1)


SIZE = {"height": 8, "width": 12, "num_inference_steps": 2, "output_type": "latent", "max_sequence_length": 64}

CASES = [
    Case(
        family="ideogram4",
        model=transformer,
        inputs=inputs,
        channels=CHANNELS,
        layers={r"layers\.\d+\.attention": ("text", "image")},
        attended=lambda tokens: FILLING + tokens,
        grid=(4, 6),
    )
]

PIPELINES = [
    PipelineCase(
        name="ideogram4",
        build=pipeline,
        settings={**SIZE, "guidance_scale": 2.0, "guidance_schedule": None},
        text=unfilled,
        special=frame(OPENING, ENDING + ANSWER),
        latents=(24, 4),
        knows_characters=True,
    )
]
