"""Qwen-Image-2.1 from a few thousand random weights."""

from functools import cache

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from families.harness import Case, PipelineCase, noise, quiet
from families.models import chat_models as chat
from support import host
from support import tiny_pipelines as tiny

CONDITION = 4  # tokens of a condition picture, 2 x 2


def transformer(**changes):
    sizes = {"in_channels": 4, "out_channels": 4, "num_layers": 2, "attention_head_dim": 16}
    dims = {"num_attention_heads": 2, "context_in_dim": 16, "axes_dims_rope": (8, 4, 4)}
    torch.manual_seed(0)
    return tiny.without_silent_parts(host.QwenImage21Transformer2DModel(**{**sizes, **dims, **changes}).eval())


def inputs(text):
    """[text | 4 x 6 image tokens]; a place in the text stands for 2 x 2 of them."""
    rows, tokens, _ = text.shape
    return {
        "hidden_states": noise(1, 24, 4).expand(rows, -1, -1),
        "encoder_hidden_states": text,
        "timestep": torch.full((rows,), 0.5),
        "img_shapes": [[(1, 4, 6)]] * rows,
        "img_mask": torch.tensor([False] * tokens + [True] * 6).expand(rows, -1),
    }


@cache
def reader():
    """A model that reads prompts for another; no test changes it."""
    return transformer()


def later_inputs(text):
    """Those of a later step, with keys that the first one kept, of another picture and time."""
    from diffusers.models.transformers.transformer_qwenimage21 import QwenImage21KVCache

    kept = QwenImage21KVCache(2)
    first = {**inputs(text), "hidden_states": noise(1, 24, 4, seed=5).expand(len(text), -1, -1)}
    first["timestep"] = torch.full((len(text),), 1.0)
    reader()(**first, kv_cache=kept, kv_cache_mode="extract")
    return {**inputs(text), "kv_cache": kept, "kv_cache_mode": "cached"}


def inputs_with_condition(text):
    """[text | a condition picture | image]; what a text has beyond ten tokens is padding."""
    rows, tokens, _ = text.shape
    given = inputs(text)
    condition = noise(1, CONDITION, 4, seed=2).expand(rows, -1, -1)
    given["hidden_states"] = torch.cat([condition, given["hidden_states"]], 1)
    given["encoder_hidden_states"] = torch.cat([text, text[:, :1]], 1)  # there is one for the place of the picture
    given["img_shapes"] = [[(1, 2, 2), (1, 4, 6)]] * rows
    given["img_mask"] = torch.tensor([False] * tokens + [True] * 7).expand(rows, -1)
    given["encoder_hidden_states_mask"] = (torch.arange(tokens + 1) < 10).expand(rows, -1)
    return given


@cache
def encoder():
    torch.manual_seed(0)
    rope = {"mrope_section": [2, 1, 1], "rope_type": "default", "rope_theta": 10000.0}
    text = {**chat.SIZES, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 3, "head_dim": 8}
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16}
    vision["deepstack_visual_indexes"] = []
    config = Qwen3VLConfig(text_config={**text, "rope_parameters": rope}, vision_config=vision)
    return Qwen3VLForConditionalGeneration(config).eval()


class Processor:
    """Stands for the processor of Qwen3-VL, without looking at any picture."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def __call__(self, text, images=None, **options):
        return self.tokenizer(text, **options)

    def apply_chat_template(self, messages, **options):
        return [self.tokenizer.apply_chat_template(messages, **options)]


def autoencoder():
    torch.manual_seed(0)
    sizes = {"base_dim": 8, "decoder_base_dim": 8, "z_dim": 4, "num_res_blocks": 1}
    return host.AutoencoderKLQwenImage21(**sizes).eval()


def pipeline(**changes):
    parts = {"vae": autoencoder(), "text_encoder": encoder(), "processor": Processor(chat.tokenizer())}
    models = {"transformer": transformer(**changes), "scheduler": FlowMatchEulerDiscreteScheduler()}
    return quiet(host.QwenImage21Pipeline(**parts, **models))


def unpadded(pipe, text):
    """What the last layer returns, before the norm at its end, without the tokens of the system's message."""
    ids = torch.tensor([pipe.processor.tokenizer(pipe.prompt_template_t2i.format(text)).input_ids])
    outputs = []
    layer = pipe.text_encoder.model.language_model.layers[-1]
    hook = layer.register_forward_hook(lambda *call: outputs.append(call[-1]))
    pipe.text_encoder(ids)
    hook.remove()
    return outputs[0][0, pipe._drop_idx :]


SETTINGS = {"height": 64, "width": 96, "num_inference_steps": 2, "output_type": "latent"}
OPENING, ENDING = len("|user\n"), len("|\n|assistant\n")  # of the template, with one token per letter and per mark
LAYERS = r"transformer_blocks\.\d+\.attn"
WITH_CONDITION = {LAYERS: ("text", ("kept", CONDITION), "image")}
CONDITIONED = {"name": "qwen_image21 with a condition picture", "attended": lambda tokens: tokens}

CASES = [
    Case("qwen_image21", transformer, inputs, 16, {LAYERS: ("text", "image")}, (4, 6)),
    Case("qwen_image21", transformer, later_inputs, 16, {LAYERS: ("text", "image")}, (4, 6), name="qwen_image21 later"),
    Case("qwen_image21", transformer, inputs_with_condition, 16, WITH_CONDITION, (4, 6), **CONDITIONED),
]

PIPELINES = [
    PipelineCase(
        name="qwen_image21",
        build=pipeline,
        settings=SETTINGS,
        text=unpadded,
        special=[True] * OPENING + [False, False] + [True] * ENDING,
        latents=(24, 4),
        prompts=("a red car", "two dogs."),  # of one length: the image stands behind the longest prompt of a batch
        cfg={"true_cfg_scale": 3.0, "negative_prompt": "ugly"},
    ),
    PipelineCase(
        name="qwen_image21 without kept keys",
        build=pipeline,
        settings={**SETTINGS, "use_kv_cache": False},
        text=unpadded,
        special=[True] * OPENING + [False, False] + [True] * ENDING,
        cfg={"true_cfg_scale": 3.0, "negative_prompt": "ugly"},
    ),
]
