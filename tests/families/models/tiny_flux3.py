"""FLUX.3 from a few thousand random weights, step-distilled and not."""

from functools import cache, partial

import torch
from diffusers import ClassifierFreeGuidance, modular_pipelines
from PIL import Image

from families.harness import Case, PipelineCase, Variant, noise, quiet
from families.models import chat_models as chat
from families.models.tiny_flux2 import autoencoder, frame, positions
from support import host
from support import tiny_pipelines as tiny

READ = (4, 8, 12, 16, 20, 24, 28, 32)  # the layers of the encoder that make a token


def transformer(**changes):
    sizes = {"in_channels": 4, "cond_in_channels": 4, "num_layers": 2, "num_single_layers": 2}
    dims = {"attention_head_dim": 16, "num_attention_heads": 2, "joint_attention_dim": 64, "axes_dims_rope": (4,) * 4}
    torch.manual_seed(0)
    model = host.Flux3Transformer2DModel(**{**sizes, **dims, **changes})
    return tiny.without_silent_parts(model.eval())


def inputs(text):
    rows = len(text)
    return {
        "hidden_states": noise(1, 24, 4).expand(rows, -1, -1),
        "encoder_hidden_states": text,
        "timestep": torch.full((rows,), 0.5),
        "img_ids": positions(1, 4, 6, 1) * torch.tensor([1, 0.5, 0.5, 1]),
        "txt_ids": positions(1, 1, 1, text.shape[1]).float(),
    }


def edit_inputs(text):
    """With the next step's time, and a reference image behind the picture."""
    rows = len(text)
    return {
        **inputs(text),
        "target_timestep": torch.full((rows,), 0.3),
        "image_cond_hidden_states": noise(1, 15, 4, seed=2).expand(rows, -1, -1),
        "image_cond_ids": positions(1, 3, 5, 1) * torch.tensor([1, 0.5, 0.5, 1]) - torch.tensor([0, 0, 0, 1]),
    }


class Processor:
    """A processor of chats, with the tokenizer inside."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def apply_chat_template(self, *args, **kwargs):
        return self.tokenizer.apply_chat_template(*args, **kwargs)


@cache
def encoder():
    """As deep as the layers that the pipeline takes its text from; no test changes it."""
    return chat.qwen3_vl(hidden_size=8, layers=33)


def pipeline(name, **parts):
    """Without the step that has another language model write the prompt anew."""
    blocks = getattr(modular_pipelines, name)()
    blocks.sub_blocks.pop("prompt_upsampler")
    pipe = blocks.init_pipeline()
    pipe.update_components(vae=autoencoder(), text_encoder=encoder(), tokenizer=Processor(chat.tokenizer()), **parts)
    return quiet(pipe)


def distilled():
    return pipeline("Flux3DistilledAutoBlocks", transformer=transformer(flow_map=True))


def plain(guider=None):
    """Without classifier-free guidance, unless it is asked for."""
    parts = {"transformer": transformer(), "guider": guider or ClassifierFreeGuidance(guidance_scale=1.0)}
    return pipeline("Flux3AutoBlocks", **parts)


def chatted(pipe, text):
    messages = [{"role": "user", "content": text}]
    said = pipe.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids = torch.tensor([pipe.tokenizer.tokenizer(said).input_ids])
    states = pipe.text_encoder(input_ids=ids, output_hidden_states=True).hidden_states
    return torch.cat([states[layer][0] for layer in READ], 1)


SETTINGS = {"height": 8, "width": 12, "num_inference_steps": 2, "output": "latents"}
PICTURE = Image.linear_gradient("L").resize((48, 32)).convert("RGB")
LAYERS = {r"single_transformer_blocks\.\d+\.attn": ("text", "image")}
OPENING, ENDING = len("|user\n"), len("|\n|assistant\n")  # each mark is one token

CASES = [
    Case("flux3", transformer, inputs, channels=64, layers=LAYERS, grid=(4, 6)),
    Case(
        "flux3",
        partial(transformer, flow_map=True),
        edit_inputs,
        channels=64,
        layers=LAYERS,
        grid=(4, 6),
        name="flux3 distilled with a reference image",
        alone=False,
    ),
]

PIPELINES = [
    PipelineCase(
        name="flux3 distilled",
        build=distilled,
        settings=SETTINGS,
        text=chatted,
        special=frame(OPENING, ENDING),
    )
]

VARIANTS = [
    Variant("flux3", plain, SETTINGS),
    Variant("flux3 with a reference image", plain, {**SETTINGS, "image": PICTURE}),
    Variant("flux3 distilled with reference images", distilled, {**SETTINGS, "image": [PICTURE, PICTURE]}),
]
