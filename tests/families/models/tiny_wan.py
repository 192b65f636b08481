"""Wan from a few thousand random weights: text to video, image to video, VACE, video to video, one denoiser or two."""

import torch
from diffusers import (
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    WanImageToVideoPipeline,
    WanPipeline,
    WanTransformer3DModel,
    WanVACEPipeline,
    WanVACETransformer3DModel,
    WanVideoToVideoPipeline,
)
from PIL import Image
from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModel, UMT5Config, UMT5EncoderModel

from families.harness import Case, PipelineCase, Variant, quiet
from support import tiny_pipelines as tiny
from support.lockstep_oracle import CROSS

IMAGE_TOKENS = 5


def transformer(cls=WanTransformer3DModel, seed=0, **changes):
    sizes = {"patch_size": (1, 2, 2), "num_attention_heads": 2, "attention_head_dim": 12, "num_layers": 2}
    dims = {"in_channels": 16, "out_channels": 16, "text_dim": 32, "freq_dim": 32, "ffn_dim": 32}
    torch.manual_seed(seed)
    return tiny.without_silent_parts(cls(**{**sizes, **dims, "rope_max_seq_len": 32, **changes}).eval())


def image_transformer(**changes):
    """As Wan 2.1 has it for image to video: layers attend to image tokens as well."""
    return transformer(image_dim=16, added_kv_proj_dim=24, **changes)


def vace_transformer():
    return transformer(WanVACETransformer3DModel, vace_layers=[0], vace_in_channels=96)


def inputs(text):
    generator, rows = torch.Generator().manual_seed(1), len(text)
    return {
        "hidden_states": torch.randn(1, 16, 2, 4, 6, generator=generator).expand(rows, -1, -1, -1, -1),
        "encoder_hidden_states": text,
        "timestep": torch.full((rows,), 500.0),
    }


def image_inputs(text, tokens=IMAGE_TOKENS):
    image = torch.randn(1, tokens, 16, generator=torch.Generator().manual_seed(2))
    return {**inputs(text), "encoder_hidden_states_image": image.expand(len(text), -1, -1)}


def vace_inputs(text):
    control = torch.randn(1, 96, 2, 4, 6, generator=torch.Generator().manual_seed(2))
    return {**inputs(text), "control_hidden_states": control.expand(len(text), -1, -1, -1, -1)}


def pipeline(cls=WanPipeline, model=transformer, **extra):
    return quiet(
        cls(
            transformer=model(),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
            vae=autoencoder(),
            text_encoder=umt5(),
            tokenizer=tiny.t5_tokenizer(),
            **extra,
        )
    )


def two_stages():
    """Wan 2.2: a denoiser for the noisy half of the steps and another one for the rest."""
    return pipeline(transformer_2=transformer(seed=1), boundary_ratio=0.95)


def image_pipeline():
    return pipeline(
        WanImageToVideoPipeline,
        lambda: image_transformer(in_channels=36),
        image_encoder=vision(),
        image_processor=CLIPImageProcessorPil(size={"shortest_edge": 4}, crop_size={"height": 4, "width": 4}),
    )


def autoencoder():
    torch.manual_seed(0)
    sizes = {"base_dim": 3, "z_dim": 16, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1}
    return AutoencoderKLWan(**sizes, temperal_downsample=[False, True, True]).eval()


def umt5():
    torch.manual_seed(0)
    sizes = {"vocab_size": 128, "d_model": 32, "d_kv": 8, "d_ff": 37, "num_layers": 2, "num_heads": 4}
    config = UMT5Config(**sizes, relative_attention_num_buckets=8, feed_forward_proj="gated-gelu")
    return UMT5EncoderModel(config).eval()


def vision():
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    return CLIPVisionModel(CLIPVisionConfig(**sizes, image_size=4, patch_size=2)).eval()


def unpadded(pipe, text):
    return pipe.text_encoder(torch.tensor([pipe.tokenizer(text).input_ids]))[0][0]


LAYERS = {r"(vace_)?blocks\.\d+\.attn2": CROSS}
SETTINGS = {"height": 32, "width": 48, "num_frames": 5, "num_inference_steps": 2, "output_type": "latent"}
TEXT = {"guidance_scale": 1.0, "max_sequence_length": 24}
FRAME = Image.new("RGB", (48, 32), (200, 30, 30))
CLIP = {**SETTINGS, **TEXT, "video": [FRAME] * 5}
MARKS = [False, False, False, True]  # "▁", a, b, end

CASES = [
    Case("wan", transformer, inputs, channels=32, layers=LAYERS, grid=(2, 2, 3)),
    Case(
        "wan",
        image_transformer,
        image_inputs,
        channels=32,
        layers=LAYERS,
        grid=(2, 2, 3),
        name="wan image to video",
        positive=512,
        negative=512,
    ),
    Case("wan", vace_transformer, vace_inputs, channels=32, layers=LAYERS, grid=(2, 2, 3), name="wan vace"),
]

PIPELINES = [
    PipelineCase(
        "wan",
        pipeline,
        {**SETTINGS, **TEXT},
        text=unpadded,
        special=MARKS,
        latents=(16, 2, 4, 6),
        cfg={"guidance_scale": 3.0, "negative_prompt": "ugly"},
        copies="num_videos_per_prompt",
    ),
    PipelineCase(
        "wan image to video",
        image_pipeline,
        {**SETTINGS, "guidance_scale": 1.0, "image": FRAME},
        text=unpadded,
        special=MARKS,
        compiles_once=False,
        cfg={"guidance_scale": 3.0, "negative_prompt": "ugly"},
    ),
]

VARIANTS = [
    Variant("wan 2.2 with a time for each token", lambda: pipeline(expand_timesteps=True), {**SETTINGS, **TEXT}),
    Variant("wan 2.2", two_stages, {**SETTINGS, **TEXT}),
    Variant(
        "wan 2.2 image to video",
        lambda: pipeline(WanImageToVideoPipeline, lambda: transformer(in_channels=36)),
        {**SETTINGS, **TEXT, "image": FRAME},
    ),
    Variant(
        "wan video to video",
        lambda: pipeline(WanVideoToVideoPipeline),
        {key: value for key, value in CLIP.items() if key != "num_frames"},
    ),
    Variant("wan vace", lambda: pipeline(WanVACEPipeline, vace_transformer), CLIP),
]
