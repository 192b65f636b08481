"""PRX from a few thousand random weights."""

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from transformers import T5GemmaConfig, T5GemmaModuleConfig
from transformers.models.t5gemma.modeling_t5gemma import T5GemmaEncoder

from families.harness import Case, PipelineCase, Variant, noise, quiet
from families.models import chat_models as chat
from families.models.tiny_masked import CFG, filled
from families.models.tiny_unet_pipelines import remade
from support import host
from support import tiny_pipelines as tiny


def transformer(channels=4):
    sizes = {
        "in_channels": channels,
        "patch_size": 2,
        "context_in_dim": 16,
        "hidden_size": 16,
        "num_heads": 2,
        "depth": 2,
    }
    torch.manual_seed(0)
    return tiny.without_silent_parts(host.PRXTransformer2DModel(**sizes, axes_dim=[4, 4]).eval())


def inputs(text):
    rows = len(text)
    return {
        "hidden_states": noise(1, 4, 8, 12).expand(rows, -1, -1, -1),
        "encoder_hidden_states": text,
        "attention_mask": filled(text).bool(),
        "timestep": torch.full((rows,), 0.5),
    }


def t5gemma():
    sizes = {**chat.SIZES, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "head_dim": 8}
    module = T5GemmaModuleConfig(**sizes, layer_types=["full_attention"] * 2)
    torch.manual_seed(0)
    return T5GemmaEncoder(T5GemmaConfig(encoder=module, decoder=module).encoder).eval()


def pipeline():
    return quiet(
        host.PRXPipeline(
            transformer=transformer(),
            scheduler=FlowMatchEulerDiscreteScheduler(),
            vae=tiny.autoencoder(4),
            text_encoder=t5gemma(),
            tokenizer=chat.tokenizer(),
        )
    )


def unpadded(pipe, text):
    return pipe.text_encoder(torch.tensor([pipe.tokenizer(text).input_ids])).last_hidden_state[0]


SETTINGS = {"height": 16, "width": 32, "num_inference_steps": 2, "output_type": "latent", "guidance_scale": 1.0}

CASES = [Case("prx", transformer, inputs, 16, {r"blocks\.\d+\.attention": ("text", "image")}, (4, 6))]

PIPELINES = [
    PipelineCase(
        "prx",
        pipeline,
        {**SETTINGS, "use_resolution_binning": False, "tokenizer_max_length": 24},
        text=unpadded,
        special=[False, False],
        knows_characters=False,
        latents=(4, 16, 32),
        cfg=CFG,
        unconditional=(True, False),
        prompts=("a red car", "two birds"),  # of one length: the pipeline gives copies of a prompt another one's mask
    )
]

VARIANTS = [
    Variant(
        "PRXPixelPipeline",  # it draws colours, not latents
        lambda: remade(pipeline, "PRXPixelPipeline", transformer=transformer(channels=3)),
        {**SETTINGS, "use_resolution_binning": False},
    )
]
