"""Krea 2 from a few thousand random weights."""

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, Krea2Pipeline, Krea2Transformer2DModel

from families.harness import Case, PipelineCase, noise, quiet
from families.models import chat_models as chat
from families.models.tiny_flux import image_ids
from families.models.tiny_qwen_image import FRAME, autoencoder
from support import tiny_pipelines as tiny

STACK = (3, 16)  # layers of the encoder, channels of each


def transformer(layers=STACK[0]):
    sizes = {"in_channels": 16, "num_layers": 2, "attention_head_dim": 8, "num_attention_heads": 4}
    heads = {"num_key_value_heads": 2, "intermediate_size": 32, "timestep_embed_dim": 8, "axes_dims_rope": (4, 2, 2)}
    text = {"text_hidden_dim": STACK[1], "num_text_layers": layers, "text_num_attention_heads": 2}
    refiner = {"text_num_key_value_heads": 1, "text_intermediate_size": 16}
    blocks = {"num_layerwise_text_blocks": 1, "num_refiner_text_blocks": 1}
    torch.manual_seed(0)
    model = Krea2Transformer2DModel(**sizes, **heads, **text, **refiner, **blocks)
    return tiny.without_silent_parts(model.eval())


def inputs(text):
    """What a text has beyond ten tokens is padding."""
    rows, tokens, _ = text.shape
    return {
        "hidden_states": noise(1, 24, 16).expand(rows, -1, -1),
        "encoder_hidden_states": text.unflatten(2, STACK),
        "encoder_attention_mask": (torch.arange(tokens) < 10).expand(rows, -1),
        "timestep": torch.full((rows,), 0.5),
        "position_ids": torch.cat([torch.zeros(tokens, 3), image_ids(4, 6)]),
    }


def pipeline(layers=(1, 2, 3), depth=3):
    """The text is read from these layers of an encoder of this depth."""
    pipe = Krea2Pipeline(
        transformer=transformer(len(layers)),
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=autoencoder(),
        text_encoder=chat.qwen25_vl(layers=depth),
        tokenizer=chat.tokenizer(),
        text_encoder_select_layers=layers,
    )
    pipe.prompt_template_encode_start_idx = len(pipe.tokenizer(pipe.prompt_template_encode_prefix).input_ids)
    pipe.prompt_template_encode_num_suffix_tokens = FRAME
    return quiet(pipe)


def unpadded(pipe, text):
    whole = pipe.prompt_template_encode_prefix + text + pipe.prompt_template_encode_suffix
    states = pipe.text_encoder(torch.tensor([pipe.tokenizer(whole).input_ids]), output_hidden_states=True).hidden_states
    return torch.cat([states[layer][0] for layer in (1, 2, 3)], 1)[pipe.prompt_template_encode_start_idx :]


SETTINGS = {"height": 16, "width": 24, "num_inference_steps": 2, "output_type": "latent", "guidance_scale": 0.0}

CASES = [
    Case(
        family="krea2",
        model=transformer,
        inputs=inputs,
        channels=STACK[0] * STACK[1],
        layers={r"transformer_blocks\.\d+\.attn": ("text", "image")},
        grid=(4, 6),
    )
]

PIPELINES = [
    PipelineCase(
        name="krea2",
        build=pipeline,
        settings={**SETTINGS, "max_sequence_length": 64},
        text=unpadded,
        special=[False, False] + [True] * FRAME,
        compiles_once=False,
        knows_characters=False,
        latents=(6, 16),
        cfg={"guidance_scale": 3.0, "negative_prompt": "ugly"},
    )
]
