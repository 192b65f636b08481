"""LTX-Video, PixArt and Sana from a few thousand random weights."""

import diffusers
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from PIL import Image

from families.harness import Case, PipelineCase, Variant, quiet
from families.models import chat_models as chat
from support import tiny_pipelines as tiny
from support.lockstep_oracle import CROSS


def made(cls, **sizes):
    torch.manual_seed(0)
    return tiny.without_silent_parts(cls(**sizes).eval())


def ltx(**changes):
    sizes = {"in_channels": 8, "out_channels": 8, "num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 2}
    return made(diffusers.LTXVideoTransformer3DModel, **sizes, cross_attention_dim=16, caption_channels=32, **changes)


def pixart(**changes):
    sizes = {"in_channels": 4, "out_channels": 8, "num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 2}
    dims = {"cross_attention_dim": 16, "caption_channels": 32, "sample_size": 8, "use_additional_conditions": False}
    return made(diffusers.PixArtTransformer2DModel, **sizes, **dims, patch_size=2, **changes)


def sana(**changes):
    sizes = {"in_channels": 4, "out_channels": 4, "num_attention_heads": 2, "attention_head_dim": 4, "num_layers": 2}
    cross = {"num_cross_attention_heads": 2, "cross_attention_head_dim": 4, "cross_attention_dim": 8}
    dims = {"caption_channels": 24, "sample_size": 8, "patch_size": 1, "qk_norm": "rms_norm_across_heads"}
    return made(diffusers.SanaTransformer2DModel, **sizes, **cross, **dims, **changes)


def filled(text):
    """A mask that keeps ten tokens of a text: the rest is filling."""
    return (torch.arange(text.shape[1]) < 10).float().expand(len(text), -1)


def latents(text, *shape):
    return torch.randn(1, *shape, generator=torch.Generator().manual_seed(1)).expand(len(text), *shape)


def ltx_inputs(text):
    return {
        "hidden_states": latents(text, 12, 8),
        "encoder_hidden_states": text,
        "timestep": torch.full((len(text),), 500.0),
        "encoder_attention_mask": filled(text),
        "num_frames": 2,
        "height": 2,
        "width": 3,
    }


def ltx_coordinates(text):
    """As LTXConditionPipeline calls it: with a coordinate for each token, in frames, rows and columns of pixels."""
    time, row, column = torch.meshgrid(torch.arange(2), 32 * torch.arange(2), 32 * torch.arange(3), indexing="ij")
    coordinates = torch.stack([time, row, column]).flatten(1).float().expand(len(text), -1, -1)
    asked = {key: value for key, value in ltx_inputs(text).items() if key not in ("num_frames", "height", "width")}
    return {**asked, "video_coords": coordinates}


def pixart_inputs(text):
    return {
        "hidden_states": latents(text, 4, 8, 12),
        "encoder_hidden_states": text,
        "timestep": torch.full((len(text),), 500.0),
        "encoder_attention_mask": filled(text),
        "added_cond_kwargs": {"resolution": None, "aspect_ratio": None},
    }


def sana_inputs(text):
    return {
        "hidden_states": latents(text, 4, 4, 6),
        "encoder_hidden_states": text,
        "timestep": torch.full((len(text),), 0.5),
        "encoder_attention_mask": filled(text),
    }


def sprint_inputs(text):
    return {**sana_inputs(text), "guidance": torch.full((len(text),), 0.45)}


def ltx_pipeline(cls=diffusers.LTXPipeline, **extra):
    return quiet(
        cls(
            transformer=ltx(),
            scheduler=FlowMatchEulerDiscreteScheduler(),
            vae=ltx_autoencoder(),
            text_encoder=tiny.t5_encoder(),
            tokenizer=tiny.t5_tokenizer(),
            **extra,
        )
    )


def ltx_autoencoder():
    torch.manual_seed(0)
    four, five = (8,) * 4, (1,) * 5
    scaling = (True, True, True, False)
    model = diffusers.AutoencoderKLLTXVideo(
        latent_channels=8,
        block_out_channels=four,
        decoder_block_out_channels=four,
        layers_per_block=five,
        decoder_layers_per_block=five,
        spatio_temporal_scaling=scaling,
        decoder_spatio_temporal_scaling=scaling,
        decoder_inject_noise=(False,) * 5,
        upsample_residual=(False,) * 4,
        upsample_factor=(1,) * 4,
        timestep_conditioning=False,
        patch_size=1,
        patch_size_t=1,
    )
    model.use_framewise_encoding = model.use_framewise_decoding = False
    return model.eval()


def pixart_pipeline(cls=diffusers.PixArtSigmaPipeline):
    return quiet(
        cls(
            transformer=pixart(),
            scheduler=diffusers.DPMSolverMultistepScheduler(),
            vae=tiny.autoencoder(4),
            text_encoder=tiny.t5_encoder(),
            tokenizer=tiny.t5_tokenizer(),
        )
    )


def sana_pipeline(cls=diffusers.SanaPipeline, model=sana, scheduler=FlowMatchEulerDiscreteScheduler, **extra):
    return quiet(
        cls(
            transformer=model(),
            scheduler=scheduler(),
            vae=deep_autoencoder(),
            text_encoder=chat.gemma2(),
            tokenizer=chat.tokenizer(),
            **extra,
        )
    )


def sana_control():
    known = sana().config
    names = ("num_attention_heads", "attention_head_dim", "num_cross_attention_heads", "cross_attention_head_dim")
    sizes = {name: known[name] for name in (*names, "cross_attention_dim", "in_channels", "caption_channels")}
    model = made(diffusers.SanaControlNetModel, **sizes, num_layers=1, sample_size=8)
    return sana_pipeline(diffusers.SanaControlNetPipeline, controlnet=model)


def sprint(cls=diffusers.SanaSprintPipeline):
    return sana_pipeline(cls, lambda: sana(guidance_embeds=True), diffusers.SCMScheduler)


def deep_autoencoder():
    torch.manual_seed(0)
    blocks = {"block_out_channels": (8,) * 4, "layers_per_block": (1,) * 4, "block_types": "ResBlock"}
    blocks |= {"qkv_multiscales": ((),) * 4}
    both = {f"{part}_{name}": value for part in ("encoder", "decoder") for name, value in blocks.items()}
    return diffusers.AutoencoderDC(in_channels=3, latent_channels=4, attention_head_dim=2, **both).eval()


def t5_without_mask(pipe, text):
    return pipe.text_encoder(torch.tensor([pipe.tokenizer(text).input_ids]))[0][0]


def gemma(pipe, text):
    return pipe.text_encoder(torch.tensor([pipe.tokenizer(text).input_ids]))[0][0]


LAYERS = {r"transformer_blocks\.\d+\.attn2": CROSS}
STEPS = {"num_inference_steps": 2, "output_type": "latent"}
ALONE = {"guidance_scale": 1.0, **STEPS}
LTX = {**ALONE, "height": 32, "width": 64, "num_frames": 9, "max_sequence_length": 24}
PIXART = {**ALONE, "height": 8, "width": 16, "use_resolution_binning": False, "max_sequence_length": 24}
SANA = {**ALONE, "height": 32, "width": 64, "use_resolution_binning": False, "complex_human_instruction": None}
CFG = {"guidance_scale": 3.0, "negative_prompt": "ugly"}
T5_MARKS = [False, False, False, True]  # "▁", a, b, end

CASES = [
    Case("ltx", ltx, ltx_inputs, channels=32, layers=LAYERS, grid=(2, 2, 3)),
    Case("ltx", ltx, ltx_coordinates, channels=32, layers=LAYERS, grid=(2, 2, 3), name="ltx with coordinates"),
    Case("pixart", pixart, pixart_inputs, channels=32, layers=LAYERS, grid=(4, 6)),
    Case("sana", sana, sana_inputs, channels=24, layers=LAYERS, grid=(4, 6)),
    Case(
        "sana",
        lambda: sana(guidance_embeds=True),
        sprint_inputs,
        channels=24,
        layers=LAYERS,
        grid=(4, 6),
        name="sana-sprint",
    ),
]

PIPELINES = [
    PipelineCase(
        "ltx",
        ltx_pipeline,
        LTX,
        text=t5_without_mask,
        special=T5_MARKS,
        cfg=CFG,
        unconditional=(True, False),
        copies="num_videos_per_prompt",
        latents=(64, 8),
        prompts=("a red car", "two birds"),
    ),
    PipelineCase(
        "pixart",
        pixart_pipeline,
        PIXART,
        text=t5_without_mask,
        special=T5_MARKS,
        cfg=CFG,
        unconditional=(True, False),
        latents=(4, 8, 16),
    ),
    PipelineCase(
        "sana",
        sana_pipeline,
        SANA,
        text=gemma,
        special=[False, False],
        knows_characters=False,
        cfg=CFG,
        unconditional=(True, False),
        latents=(4, 4, 8),
        prompts=("a red car", "two birds"),
    ),
    PipelineCase("sana-sprint", sprint, SANA, text=gemma, special=[False, False], knows_characters=False),
]

FIRST = Image.new("RGB", (64, 32), (200, 30, 30))
BEHIND = {"image": FIRST, "frame_index": 8}  # a frame with tokens of its own
VARIANTS = [
    Variant("ltx image to video", lambda: ltx_pipeline(diffusers.LTXImageToVideoPipeline), {**LTX, "image": FIRST}),
    Variant("ltx first frame", lambda: ltx_pipeline(diffusers.LTXConditionPipeline), {**LTX, "image": FIRST}),
    Variant("ltx later frame", lambda: ltx_pipeline(diffusers.LTXConditionPipeline), {**LTX, **BEHIND}),
    Variant("pixart alpha", lambda: pixart_pipeline(diffusers.PixArtAlphaPipeline), PIXART),
    Variant("sana control", sana_control, {**SANA, "control_image": FIRST}),
    Variant(
        "sana-sprint image to image",
        lambda: sprint(diffusers.SanaSprintImg2ImgPipeline),
        {**SANA, "image": FIRST, "strength": 1.0},
    ),
]
