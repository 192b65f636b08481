"""ERNIE-Image from a few thousand random weights."""

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from transformers import Mistral3Config, Mistral3Model

from families.harness import Case, PipelineCase, noise, quiet
from families.models import chat_models as chat
from families.models.tiny_flux2 import autoencoder
from support import host
from support import tiny_pipelines as tiny

SEEN = 10  # tokens of a text; what it has beyond is filling


def transformer():
    sizes = {"hidden_size": 32, "num_attention_heads": 2, "num_layers": 2, "ffn_hidden_size": 32, "patch_size": 1}
    dims = {"in_channels": 4, "out_channels": 4, "text_in_dim": 16, "rope_axes_dim": (4, 6, 6)}
    torch.manual_seed(0)
    return tiny.without_silent_parts(host.ErnieImageTransformer2DModel(**sizes, **dims).eval())


def inputs(text):
    rows, tokens, _ = text.shape
    return {
        "hidden_states": noise(1, 4, 4, 6).expand(rows, -1, -1, -1),
        "text_bth": text,
        "text_lens": torch.full((rows,), min(tokens, SEEN)),
        "timestep": torch.full((rows,), 500.0),
    }


def mistral():
    """Mistral 3, whose pictures no test looks at."""
    torch.manual_seed(0)
    text = {"model_type": "mistral", "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 3, "head_dim": 8}
    vision = {"model_type": "pixtral", "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "image_size": 32, "patch_size": 16}
    config = Mistral3Config(text_config={**chat.SIZES, **text}, vision_config={**vision, **heads})
    return Mistral3Model(config).eval()


def pipeline():
    return quiet(
        host.ErnieImagePipeline(
            transformer=transformer(),
            scheduler=FlowMatchEulerDiscreteScheduler(),
            vae=autoencoder(),
            text_encoder=mistral(),
            tokenizer=chat.tokenizer(),
        )
    )


def unpadded(pipe, text):
    ids = torch.tensor([pipe.tokenizer(text).input_ids])
    return pipe.text_encoder(ids, output_hidden_states=True).hidden_states[-2][0]


LAYERS = {r"layers\.\d+\.self_attention": ("image", "text")}
CASES = [Case("ernie", transformer, inputs, 16, LAYERS, (4, 6), negative=SEEN)]  # so that the oracle's images coincide

PIPELINES = [
    PipelineCase(
        name="ernie",
        build=pipeline,
        settings={
            "height": 8,
            "width": 12,
            "num_inference_steps": 2,
            "output_type": "latent",
            "guidance_scale": 1.0,
        },
        text=unpadded,
        special=[False, False],
        compiles_once=False,
        latents=(4, 4, 6),
        cfg={"guidance_scale": 3.0, "negative_prompt": "ugly"},
        unconditional=(True, False),
    )
]
