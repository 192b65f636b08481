"""SkyReels-V2 and ChronoEdit from a few thousand random weights, their parts those of Wan."""

from functools import partial

import torch
from diffusers import ChronoEditTransformer3DModel, SkyReelsV2Transformer3DModel, UniPCMultistepScheduler
from transformers import CLIPImageProcessorPil

from families.harness import Case, PipelineCase, Variant
from families.models import tiny_wan
from support import host
from support.lockstep_oracle import CROSS

transformer = partial(tiny_wan.transformer, SkyReelsV2Transformer3DModel)
image_transformer = partial(transformer, image_dim=16, added_kv_proj_dim=24)
chronoedit = partial(tiny_wan.transformer, ChronoEditTransformer3DModel, image_dim=16, added_kv_proj_dim=24)
forced_transformer = partial(transformer, inject_sample_info=True)


def forced_inputs(text):
    """Every frame has a time of its own, and the model is told how many there are in a second."""
    rows = len(text)
    times = torch.tensor([[300.0, 500.0]]).expand(rows, -1)
    return {**tiny_wan.inputs(text), "timestep": times, "enable_diffusion_forcing": True, "fps": [1]}


def pipeline(name="SkyReelsV2Pipeline", model=transformer, **extra):
    return tiny_wan.pipeline(getattr(host, name), model, **extra)


def forced(name="SkyReelsV2DiffusionForcingPipeline"):
    """Every frame has a scheduler of its own, which has to know times without being told the first one."""
    pipe = pipeline(name, forced_transformer)
    pipe.scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)
    return pipe


def from_a_picture(name="SkyReelsV2ImageToVideoPipeline", model=image_transformer):
    size = {"size": {"shortest_edge": 4}, "crop_size": {"height": 4, "width": 4}}
    parts = {"image_encoder": tiny_wan.vision(), "image_processor": CLIPImageProcessorPil(**size)}
    return pipeline(name, partial(model, in_channels=36), **parts)


def edited():
    """ChronoEdit: the edited picture is the last frame of a video that begins with the picture as it was."""
    return from_a_picture("ChronoEditPipeline", chronoedit)


SETTINGS = {**tiny_wan.SETTINGS, **tiny_wan.TEXT}
FROM_A_FRAME = {**tiny_wan.SETTINGS, "guidance_scale": 1.0, "image": tiny_wan.FRAME}
LAYERS = {r"blocks\.\d+\.attn2": CROSS}

CASES = [
    Case("skyreels_v2", transformer, tiny_wan.inputs, 32, LAYERS, (2, 2, 3)),
    Case("skyreels_v2", forced_transformer, forced_inputs, 32, LAYERS, (2, 2, 3), name="skyreels_v2 forced"),
    Case(
        "chronoedit",
        chronoedit,
        tiny_wan.image_inputs,
        channels=32,
        layers=LAYERS,
        grid=(2, 2, 3),
        positive=512,  # its layers count so many back from the end
        negative=512,
    ),
]

PIPELINES = [
    PipelineCase(
        "skyreels_v2",
        pipeline,
        SETTINGS,
        text=tiny_wan.unpadded,
        special=tiny_wan.MARKS,
        latents=(16, 2, 4, 6),
        cfg={"guidance_scale": 3.0, "negative_prompt": "ugly"},
        copies="num_videos_per_prompt",
    ),
    PipelineCase(
        "skyreels_v2 forced",
        forced,
        SETTINGS,
        text=tiny_wan.unpadded,
        special=tiny_wan.MARKS,
        cfg={"guidance_scale": 3.0, "negative_prompt": "ugly"},
        copies="num_videos_per_prompt",
    ),
    PipelineCase(
        "chronoedit",
        edited,
        FROM_A_FRAME,
        text=tiny_wan.unpadded,
        special=tiny_wan.MARKS,
        compiles_once=False,
        cfg={"guidance_scale": 3.0, "negative_prompt": "ugly"},
    ),
]

VARIANTS = [
    Variant(
        "skyreels_v2 image to video",
        from_a_picture,
        FROM_A_FRAME,
    ),
    Variant(
        "skyreels_v2 forced, from a picture",
        partial(forced, "SkyReelsV2DiffusionForcingImageToVideoPipeline"),
        {**SETTINGS, "image": tiny_wan.FRAME},
    ),
    Variant(
        "skyreels_v2 forced, longer than a video",
        partial(forced, "SkyReelsV2DiffusionForcingVideoToVideoPipeline"),
        {**SETTINGS, "num_frames": 9, "base_num_frames": 9, "overlap_history": 1, "video": [tiny_wan.FRAME] * 5},
    ),
    Variant(
        "skyreels_v2 one part after another",
        forced,
        {**SETTINGS, "num_frames": 9, "ar_step": 1, "causal_block_size": 1},
    ),
]
