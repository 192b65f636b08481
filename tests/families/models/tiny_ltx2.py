"""LTX-2 from a few thousand random weights: picture and sound, each with its own text."""

import diffusers
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, LTX2Pipeline, LTX2VideoTransformer3DModel
from diffusers.pipelines.ltx2 import LTX2TextConnectors
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

from families.harness import Case, PipelineCase, quiet
from families.models import chat_models as chat
from support import tiny_pipelines as tiny
from support.lockstep_oracle import CROSS

WIDE = 16  # channels of either text


def transformer(**changes):
    sizes = {"in_channels": 8, "out_channels": 8, "num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 2}
    audio = {"audio_in_channels": 8, "audio_out_channels": 8, "audio_num_attention_heads": 2}
    dims = {"cross_attention_dim": 16, "audio_attention_head_dim": 4, "audio_cross_attention_dim": 8}
    torch.manual_seed(0)
    model = LTX2VideoTransformer3DModel(
        **{**sizes, **audio, **dims, "caption_channels": WIDE, "rope_double_precision": False, **changes}
    )
    return tiny.without_silent_parts(model.eval())


def inputs(text):
    generator, rows = torch.Generator().manual_seed(1), len(text)
    video, audio = text.split(WIDE, -1)
    mask = (torch.arange(text.shape[1]) < 10).float().expand(rows, -1)
    return {
        "hidden_states": torch.randn(1, 12, 8, generator=generator).expand(rows, -1, -1),
        "audio_hidden_states": torch.randn(1, 9, 8, generator=generator).expand(rows, -1, -1),
        "encoder_hidden_states": video,
        "audio_encoder_hidden_states": audio,
        "timestep": torch.full((rows,), 500.0),
        "encoder_attention_mask": mask,
        "audio_encoder_attention_mask": mask,
        "num_frames": 2,
        "height": 2,
        "width": 3,
        "audio_num_frames": 9,
        "fps": 25.0,
    }


def pipeline():
    return quiet(
        LTX2Pipeline(
            transformer=transformer(),
            scheduler=FlowMatchEulerDiscreteScheduler(),
            vae=video_autoencoder(),
            audio_vae=audio_autoencoder(),
            text_encoder=gemma3(),
            tokenizer=chat.tokenizer(),
            connectors=connectors(),
            vocoder=None,
        )
    )


def gemma3():
    torch.manual_seed(0)
    sizes = {"hidden_size": WIDE, "intermediate_size": 16, "num_hidden_layers": 2, "head_dim": 8, **chat.SIZES}
    return Gemma3ForCausalLM(Gemma3TextConfig(**sizes, pad_token_id=0)).eval()


def connectors():
    torch.manual_seed(0)
    sizes = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 1, "num_learnable_registers": 8}
    both = {f"{part}_connector_{name}": size for part in ("video", "audio") for name, size in sizes.items()}
    model = LTX2TextConnectors(caption_channels=WIDE, text_proj_in_factor=3, **both, rope_double_precision=False)
    return tiny.without_silent_parts(model.eval())


def video_autoencoder():
    torch.manual_seed(0)
    sizes = {"latent_channels": 8, "block_out_channels": (8,) * 4, "decoder_block_out_channels": (8,) * 3}
    layers = {"layers_per_block": (1,) * 5, "decoder_layers_per_block": (1,) * 4}
    return diffusers.AutoencoderKLLTX2Video(**sizes, **layers).eval()


def audio_autoencoder():
    torch.manual_seed(0)
    return diffusers.AutoencoderKLLTX2Audio(
        base_channels=8, ch_mult=(1,), num_res_blocks=1, latent_channels=2, mel_bins=16
    ).eval()


def padded(pipe, text):
    """Padding is part of how LTX-2 reads a text: registers take its place, and the words see them."""
    ids = torch.tensor([pipe.tokenizer(text).input_ids])
    states = torch.stack(pipe.text_encoder(ids, output_hidden_states=True).hidden_states, -1).flatten(2)
    tokens = ids.shape[1]
    behind = torch.zeros(1, 1024 - tokens, states.shape[-1])
    mask = (torch.arange(1024) < tokens).long()[None]
    video, audio, _ = pipe.connectors(torch.cat([states, behind], 1), mask, padding_side="right")
    return torch.cat([video, audio], -1)[0, :tokens]


SETTINGS = {"height": 64, "width": 128, "num_frames": 9, "num_inference_steps": 2, "output_type": "latent"}
CASES = [
    Case(
        "ltx2",
        transformer,
        inputs,
        channels=2 * WIDE,
        layers={r"transformer_blocks\.\d+\.(audio_)?attn2": CROSS},
        grid=(2, 2, 3),
    )
]
PIPELINES = [
    PipelineCase(
        "ltx2",
        pipeline,
        {**SETTINGS, "guidance_scale": 1.0},
        text=padded,
        special=[False, False],
        knows_characters=False,
        encoders=("text_encoder",),
        cfg={"guidance_scale": 3.0, "negative_prompt": "ugly"},
        unconditional=(True, False),
        copies="num_videos_per_prompt",
    )
]
