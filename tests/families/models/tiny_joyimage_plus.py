"""JoyImage-Edit-Plus from a few thousand random weights."""

import math

import diffusers
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from PIL import Image

from families.harness import Case, PipelineCase, noise, quiet
from families.models import chat_models as chat
from families.models import tiny_joyimage, tiny_wan
from families.models.tiny_joint import built
from families.models.tiny_masked import filled


def transformer():
    sizes = {"in_channels": 16, "hidden_size": 32, "num_attention_heads": 2, "text_dim": 16, "num_layers": 2}
    return built(diffusers.JoyImageEditPlusTransformer3DModel, **sizes, rope_dim_list=[4, 6, 6])


def inputs(text, shapes=((1, 2, 3),), padding=0):
    """Patches of a picture and of others of these shapes, and so many of padding."""
    rows = len(text)
    patches = sum(map(math.prod, shapes)) + padding
    return {
        "hidden_states": noise(1, patches, 16, 1, 2, 2).expand(rows, -1, -1, -1, -1, -1),
        "encoder_hidden_states": text,
        "encoder_hidden_states_mask": filled(text),
        "shape_list": [list(shapes)] * rows,
        "timestep": torch.full((rows,), 500.0),
    }


def pipeline():
    pipe = diffusers.JoyImageEditPlusPipeline(
        transformer=transformer(),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=tiny_wan.autoencoder(),
        text_encoder=chat.qwen25_vl(),
        tokenizer=None,
        processor=None,
    )
    frame = template(pipe).partition("{}")[0] + "<|im_start|>user\n"
    pipe.register_modules(tokenizer=chat.tokenizer(frame, pipe.prompt_template_encode_start_idx["multiple_images"]))
    pipe.processor = tiny_joyimage.Reader(pipe)
    pipe.image_processor.get_default_height_width = lambda _image, height=None, width=None: (height or 32, width or 48)
    return quiet(pipe)


def template(pipe):
    return pipe.prompt_template_encode["multiple_images"]


def chatted(pipe, text):
    chat_of_text = template(pipe).format(f"<|im_start|>user\n{text}<|im_end|>\n")
    start = pipe.prompt_template_encode_start_idx["multiple_images"]
    return tiny_joyimage.last_layer(pipe, chat_of_text)[start:]


CASES = [Case("joyimage_plus", transformer, inputs, 16, tiny_joyimage.LAYERS, (2, 3))]

BEHIND = len("<\n<assistant\n")  # tokens: a mark, here "<", is one
ENCODED = {"text": chatted, "special": [False, False] + [True] * BEHIND}
ENCODED["compiles_once"] = False  # the test's negatives, 19 and 16 tokens, are filled up to different lengths

PIPELINES = [
    PipelineCase(
        "joyimage_plus",
        pipeline,
        tiny_joyimage.SETTINGS,
        **ENCODED,
        latents=(16, 1, 4, 6),
        cfg={"guidance_scale": 3.0, "negative_prompt": "ugly"},
        unconditional=(True, False),
        copies="",
    ),
    PipelineCase(
        "joyimage_plus edit",
        pipeline,
        {**tiny_joyimage.SETTINGS, "images": [[Image.new("RGB", (48, 32), (200, 30, 30))]]},
        **ENCODED,
    ),
]
