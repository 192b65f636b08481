"""Kolors from a few thousand random weights."""

import io
import random
import tempfile
from functools import cache, partial
from pathlib import Path

import torch
from diffusers import EulerDiscreteScheduler
from diffusers.pipelines.kolors import ChatGLMModel, ChatGLMTokenizer
from diffusers.pipelines.kolors.text_encoder import ChatGLMConfig
from PIL import Image
from sentencepiece import SentencePieceTrainer

from families.harness import Case, PipelineCase, Variant, quiet
from families.models import tiny_unet
from support import host
from support import tiny_pipelines as tiny

LENGTH = 32  # a text is padded in front to so many tokens


def unet():
    text = {"encoder_hid_dim_type": "text_proj", "encoder_hid_dim": 16}
    return tiny_unet.unet_xl(**text)


def chatglm():
    torch.manual_seed(0)
    sizes = {"num_layers": 2, "hidden_size": 16, "ffn_hidden_size": 16, "kv_channels": 8, "num_attention_heads": 2}
    groups = {"multi_query_attention": True, "multi_query_group_num": 1, "padded_vocab_size": 100, "seq_length": 64}
    config = ChatGLMConfig(**sizes, **groups, add_qkv_bias=True, original_rope=True, rmsnorm=True)
    model = ChatGLMModel(config, empty_init=False).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.5)  # it leaves some as they are found in memory
    return model


@cache
def vocabulary():
    """A SentencePiece model with a token for each letter."""
    draw = random.Random(0)
    texts = ("".join(draw.choices("abcdefghijklmnopqrstuvwxyz ", k=40)) for _ in range(200))
    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=texts,
        model_writer=model,
        model_type="char",
        vocab_size=40,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return model.getvalue()


def tokenizer():
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tokenizer.model"
        file.write_bytes(vocabulary())
        return ChatGLMTokenizer(str(file))


def pipeline(name="KolorsPipeline"):
    return quiet(
        getattr(host, name)(
            unet=unet(),
            scheduler=EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"),
            vae=tiny.autoencoder(4),
            text_encoder=chatglm(),
            tokenizer=tokenizer(),
        )
    )


def unpadded(pipe, text):
    given = pipe.tokenizer(text, return_tensors="pt")
    return pipe.text_encoder(**given, output_hidden_states=True).hidden_states[-2][:, 0]


SETTINGS = {**tiny_unet.SETTINGS, "max_sequence_length": LENGTH}

CASES = [Case("kolors", unet, tiny_unet.inputs_xl, channels=16, layers=tiny_unet.LAYERS, grid=(8, 12))]

PIPELINES = [
    PipelineCase(
        "kolors",
        pipeline,
        SETTINGS,
        text=unpadded,
        special=[True, True, False, False, False],  # the two marks of a text, "▁", a, b
        knows_characters=False,
        denoiser="unet",
        latents=(4, 8, 16),
        cfg={"guidance_scale": 3.0, "negative_prompt": "ugly"},
        unconditional=(True, False),
    )
]

VARIANTS = [
    Variant(
        "kolors image to image",
        partial(pipeline, "KolorsImg2ImgPipeline"),
        {**{key: value for key, value in SETTINGS.items() if key not in ("height", "width")}, "strength": 1.0}
        | {"image": Image.new("RGB", (16, 8), (200, 30, 30))},
    )
]
