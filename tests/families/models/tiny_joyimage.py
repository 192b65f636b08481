"""JoyImage-Edit from a few thousand random weights."""

import diffusers
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from PIL import Image

from families.harness import Case, PipelineCase, noise, quiet
from families.models import chat_models as chat
from families.models import tiny_wan
from families.models.tiny_joint import built


def transformer(**changes):
    sizes = {"in_channels": 16, "hidden_size": 32, "num_attention_heads": 2, "text_dim": 16, "num_layers": 2}
    return built(diffusers.JoyImageEditTransformer3DModel, **{**sizes, "rope_dim_list": [4, 6, 6], **changes})


def inputs(text, pictures=1):
    """So many pictures: those to edit, and in the last place the one that is drawn."""
    rows = len(text)
    return {
        "hidden_states": noise(1, pictures, 16, 1, 4, 6).expand(rows, -1, -1, -1, -1, -1),
        "encoder_hidden_states": text,
        "timestep": torch.full((rows,), 500.0),
    }


def pipeline():
    pipe = diffusers.JoyImageEditPipeline(
        transformer=transformer(rope_type="mrope"),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=tiny_wan.autoencoder(),
        text_encoder=chat.qwen25_vl(),
        tokenizer=None,
        processor=None,
    )
    frame = pipe.prompt_template_encode["image"].partition("{}")[0]
    pipe.register_modules(tokenizer=chat.tokenizer(frame, pipe.prompt_template_encode_start_idx["image"]))
    pipe.processor = Reader(pipe)
    pipe.vae_image_processor.get_default_height_width = lambda _image, height, width: (height, width)
    return quiet(pipe)


class Reader:
    """Stands for the processor, which reads a picture too: here it reads the text alone."""

    def __init__(self, pipe):
        self.tokenizer = pipe.tokenizer

    def __call__(self, text, images, padding, return_tensors):
        return self.tokenizer(text=text, padding=padding, return_tensors=return_tensors)


def chatted(pipe, text):
    start = pipe.prompt_template_encode_start_idx["image"]
    return last_layer(pipe, pipe.prompt_template_encode["image"].format(text))[start:]


def last_layer(pipe, text):
    """What the last layer of the language model makes of a text, before its norm."""
    states = []
    handle = pipe.text_encoder.model.language_model.layers[-1].register_forward_hook(
        lambda _module, _args, output: states.append(output[0] if isinstance(output, tuple) else output)
    )
    pipe.text_encoder(input_ids=torch.tensor([pipe.tokenizer(text).input_ids]))
    handle.remove()
    return states[0][0]


LAYERS = {r"double_blocks\.\d+\.attn": ("image", "text")}

CASES = [
    Case("joyimage", transformer, inputs, 16, LAYERS, (2, 3)),
    Case(
        "joyimage",
        lambda: transformer(rope_type="mrope"),
        inputs,
        16,
        LAYERS,
        (2, 3),
        name="joyimage with positions of text",
    ),
]

BEHIND = len("<\n<assistant\n")  # tokens: a mark, here "<", is one
SETTINGS = {"height": 32, "width": 48, "num_inference_steps": 2, "output_type": "latent", "guidance_scale": 1.0}

PIPELINES = [
    PipelineCase(
        "joyimage",
        pipeline,
        SETTINGS,
        text=chatted,
        special=[False, False] + [True] * BEHIND,
        latents=(1, 16, 1, 4, 6),
        cfg={"guidance_scale": 3.0, "negative_prompt": "ugly"},
        prompts=("a red car", "two birds"),  # of one length: the filling of a batch is attended
        compiles_once=False,
    ),
    PipelineCase(
        "joyimage edit",
        pipeline,
        {**SETTINGS, "image": Image.new("RGB", (48, 32), (200, 30, 30))},
        text=chatted,
        special=[False, False] + [True] * BEHIND,
        compiles_once=False,
    ),
]
