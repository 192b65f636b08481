"""Kandinsky 5 from a few thousand random weights."""

import diffusers
import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    Kandinsky5I2VPipeline,
    Kandinsky5T2IPipeline,
    Kandinsky5T2VPipeline,
    Kandinsky5Transformer3DModel,
)
from PIL import Image
from transformers import CLIPTextModel

from families.harness import Case, PipelineCase, Variant, quiet
from families.models import chat_models as chat
from support import tiny_pipelines as tiny
from support.lockstep_oracle import CROSS


def transformer(**changes):
    sizes = {"in_visual_dim": 4, "out_visual_dim": 4, "in_text_dim": 16, "in_text_dim2": 16, "time_dim": 16}
    dims = {"model_dim": 16, "ff_dim": 32, "num_text_blocks": 2, "num_visual_blocks": 2, "axes_dims": (2, 2, 4)}
    torch.manual_seed(0)
    model = Kandinsky5Transformer3DModel(**{**sizes, **dims, "patch_size": (1, 2, 2), **changes})
    return tiny.without_silent_parts(model.eval())


def inputs(text):
    generator, rows = torch.Generator().manual_seed(1), len(text)
    return {
        "hidden_states": torch.randn(1, 2, 4, 6, 4, generator=generator).expand(rows, -1, -1, -1, -1),
        "encoder_hidden_states": text,
        "timestep": torch.full((rows,), 500.0),
        "pooled_projections": torch.randn(1, 16, generator=generator).expand(rows, -1),
        "visual_rope_pos": [torch.arange(2), torch.arange(2), torch.arange(3)],
        "text_rope_pos": torch.arange(text.shape[1]),
    }


def pipeline(cls=Kandinsky5T2VPipeline, model=transformer, vae=None):
    pipe = cls(
        transformer=model(),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=video_autoencoder() if vae is None else vae,
        text_encoder=chat.qwen25_vl(),
        tokenizer=None,
        text_encoder_2=tiny.clip(seed=0, cls=CLIPTextModel),
        tokenizer_2=tiny.clip_tokenizer(),
    )
    frame, _, _ = pipe.prompt_template.partition("{}")
    pipe.tokenizer = Processor(chat.tokenizer(frame, pipe.prompt_template_encode_start_idx))
    return quiet(pipe)


class Processor:
    """What the pipeline calls its tokenizer: it would read pictures too, which come first among its arguments."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def __call__(self, images=None, text=None, videos=None, **options):
        assert images is None
        assert videos is None
        return self.tokenizer(text, **options)


def video_autoencoder():
    torch.manual_seed(0)
    sizes = {"latent_channels": 4, "block_out_channels": (4,) * 4, "layers_per_block": 1, "norm_num_groups": 1}
    types = {"down_block_types": ("HunyuanVideoDownBlock3D",) * 4, "up_block_types": ("HunyuanVideoUpBlock3D",) * 4}
    return diffusers.AutoencoderKLHunyuanVideo(**sizes, **types, mid_block_add_attention=False).eval()


def unpadded(pipe, text):
    ids = pipe.tokenizer.tokenizer(pipe.prompt_template.format(text)).input_ids
    states = pipe.text_encoder(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states[-1]
    return states[0, pipe.prompt_template_encode_start_idx :]


SETTINGS = {"height": 32, "width": 48, "num_frames": 5, "num_inference_steps": 2, "output_type": "latent"}
ALONE = {**SETTINGS, "guidance_scale": 1.0}
LAYERS = {r"visual_transformer_blocks\.\d+\.cross_attention": CROSS}

CASES = [Case("kandinsky5", transformer, inputs, channels=16, layers=LAYERS, grid=(2, 2, 3))]

PIPELINES = [
    PipelineCase(
        "kandinsky5",
        pipeline,
        ALONE,
        text=unpadded,
        special=[False, False, True],  # a, b, end of the message
        encoders=("text_encoder", "text_encoder_2"),
        cfg={"guidance_scale": 3.0, "negative_prompt": "ugly"},
        copies="num_videos_per_prompt",
    )
]


def picture():
    return pipeline(Kandinsky5T2IPipeline, vae=tiny.autoencoder(4))


def first_frame():
    return pipeline(Kandinsky5I2VPipeline, lambda: transformer(visual_cond=True))


FRAME = Image.new("RGB", (48, 32), (200, 30, 30))
LONGER = {"num_frames": 17}  # the first four frames of the latents are brought in line with those behind
VARIANTS = [
    Variant("kandinsky5 picture", picture, {key: value for key, value in ALONE.items() if key != "num_frames"}),
    Variant("kandinsky5 image to video", first_frame, {**ALONE, **LONGER, "image": FRAME}),
]
