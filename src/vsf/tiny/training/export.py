"""Export a model as an ordinary StableDiffusion3Pipeline folder in float16, and read one back."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from vsf.tiny.training.autoencoder import CHANNELS, DECODER_BLOCKS, WIDTH, Autoencoder
from vsf.tiny.training.denoiser import HEADS, LAYERS, Denoiser, TextEncoder
from vsf.tiny.training.losses import SHIFT, SHIFT_TERMINAL
from vsf.tiny.training.tokens import LENGTH, Tokenizer
from vsf.tiny.training.transformer import HEAD, PATCH, SIDE

_DIFFUSERS = "0.42.1"  # the version whose configuration format these files follow
_WEIGHTS = "diffusion_pytorch_model"
PROGRESS = "training.json"
"""Holds how many images each stage had visited, so that another run can go on from an export."""
ENCODERS = ("text_encoder", "text_encoder_2")


@dataclass(frozen=True)
class Code:
    """Normalisation of the encoder's output to latents: (output - shift) x scale."""

    shift: float
    scale: float


def save(folder: Path, denoiser: Denoiser, autoencoder: Autoencoder, code: Code, progress: dict[str, int]) -> None:
    """Write a pipeline folder; an interrupted write leaves the older folder as it was.

    Args:
        folder: Replaced if it exists.
        denoiser: Transformer and text encoders.
        autoencoder: The autoencoder.
        code: Normalisation of the latents.
        progress: Images that each stage has visited.
    """
    part = folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    tokenizer = Tokenizer()
    _write(part / "transformer", denoiser.transformer, _transformer_config(denoiser), _WEIGHTS)
    _write(part / "vae", autoencoder, _autoencoder_config(autoencoder, code), _WEIGHTS)
    for name, encoder in zip(ENCODERS, denoiser.encoders, strict=True):
        assert isinstance(encoder, TextEncoder)
        _write(part / name, encoder, _encoder_config(encoder, tokenizer), "model")
        tokenizer.save(part / name.replace("text_encoder", "tokenizer"))
    _json(part / "scheduler" / "scheduler_config.json", _scheduler_config())
    _json(part / "model_index.json", _index())
    _json(part / PROGRESS, progress)
    _replace(folder, part)


def save_autoencoder(folder: Path, autoencoder: Autoencoder, code: Code, progress: dict[str, int]) -> None:
    """Write a folder that holds the autoencoder alone; for the arguments see `save`."""
    part = folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    _write(part / "vae", autoencoder, _autoencoder_config(autoencoder, code), _WEIGHTS)
    _json(part / PROGRESS, progress)
    _replace(folder, part)


def is_whole(folder: Path) -> bool:
    """Return whether a saved folder holds the denoiser too, and not the autoencoder alone."""
    return (folder / "transformer").is_dir()


def load(folder: Path, denoiser: Denoiser, autoencoder: Autoencoder) -> tuple[Code, dict[str, int]]:
    """Read a saved folder into networks of the same sizes.

    Returns:
        The normalisation of its latents, and the images that each stage of its training had visited.
    """
    _read(folder / "transformer" / f"{_WEIGHTS}.safetensors", denoiser.transformer)
    for name, encoder in zip(ENCODERS, denoiser.encoders, strict=True):
        _read(folder / name / "model.safetensors", encoder)
    return load_autoencoder(folder, autoencoder)


def load_autoencoder(folder: Path, autoencoder: Autoencoder) -> tuple[Code, dict[str, int]]:
    """Read the autoencoder of a saved folder; for the result see `load`."""
    _read(folder / "vae" / f"{_WEIGHTS}.safetensors", autoencoder)
    config = json.loads((folder / "vae" / "config.json").read_text())
    progress = json.loads((folder / PROGRESS).read_text())
    return Code(config["shift_factor"], config["scaling_factor"]), progress


def _replace(folder: Path, part: Path) -> None:
    """Put a finished folder in the place of an older one, which is there under one name or another all the time."""
    older = folder.with_name(f"{folder.name}.older")
    shutil.rmtree(older, ignore_errors=True)
    if folder.exists():
        folder.rename(older)
    part.rename(folder)
    shutil.rmtree(older, ignore_errors=True)


def _read(path: Path, network: nn.Module) -> None:
    network.load_state_dict({name: value.float() for name, value in load_file(path).items()})


def _write(folder: Path, network: nn.Module, config: dict[str, Any], stem: str) -> None:
    """Write a network's weights, in float16, and its configuration."""
    folder.mkdir(parents=True)
    halves: dict[str, torch.Tensor] = {}
    for name, value in network.state_dict().items():
        halves[name] = value.detach().to("cpu", torch.float16).contiguous()
    save_file(halves, folder / f"{stem}.safetensors", metadata={"format": "pt"})
    _json(folder / "config.json", config)


def _json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")


def _transformer_config(denoiser: Denoiser) -> dict[str, Any]:
    depth = denoiser.transformer.depth
    width = HEAD * depth
    return {
        "_class_name": "SD3Transformer2DModel",
        "_diffusers_version": _DIFFUSERS,
        "attention_head_dim": HEAD,
        "caption_projection_dim": width,
        "dual_attention_layers": [],
        "in_channels": CHANNELS,
        "joint_attention_dim": width,
        "num_attention_heads": depth,
        "num_layers": depth,
        "out_channels": CHANNELS,
        "patch_size": PATCH,
        "pooled_projection_dim": width,
        "pos_embed_max_size": 2 * SIDE // PATCH,
        "qk_norm": "rms_norm",
        "sample_size": SIDE,
    }


def _autoencoder_config(autoencoder: Autoencoder, code: Code) -> dict[str, Any]:
    widths = [WIDTH] * len(DECODER_BLOCKS)
    return {
        "_class_name": "AutoencoderTiny",
        "_diffusers_version": _DIFFUSERS,
        "act_fn": "relu",
        "block_out_channels": widths,
        "decoder_block_out_channels": widths,
        "encoder_block_out_channels": widths,
        "force_upcast": False,
        "in_channels": 3,
        "latent_channels": CHANNELS,
        "latent_magnitude": 3,
        "latent_shift": 0.5,
        "num_decoder_blocks": list(DECODER_BLOCKS),
        "num_encoder_blocks": list(autoencoder.encoder_blocks),
        "out_channels": 3,
        "scaling_factor": code.scale,
        "shift_factor": code.shift,
        "upsample_fn": "nearest",
        "upsampling_scaling_factor": 2,
    }


def _encoder_config(encoder: TextEncoder, tokenizer: Tokenizer) -> dict[str, Any]:
    return {
        "architectures": ["CLIPTextModelWithProjection"],
        "attention_dropout": 0.0,
        "bos_token_id": tokenizer.begin,
        "dtype": "float16",
        "eos_token_id": tokenizer.end,
        "hidden_act": "gelu",
        "hidden_size": encoder.width,
        "initializer_factor": 1.0,
        "initializer_range": 0.02,
        "intermediate_size": 2 * encoder.width,
        "layer_norm_eps": 1e-05,
        "max_position_embeddings": LENGTH,
        "model_type": "clip_text_model",
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "pad_token_id": tokenizer.end,
        "projection_dim": encoder.width,
        "vocab_size": len(tokenizer.ids),
    }


def _scheduler_config() -> dict[str, Any]:
    return {
        "_class_name": "FlowMatchEulerDiscreteScheduler",
        "_diffusers_version": _DIFFUSERS,
        "num_train_timesteps": 1000,
        "shift": SHIFT,
        "shift_terminal": SHIFT_TERMINAL,
        "use_dynamic_shifting": False,
    }


def _index() -> dict[str, Any]:
    # Diffusers' entry for a component that a pipeline goes without.
    absent: list[None] = [None, None]
    encoder = ["transformers", "CLIPTextModelWithProjection"]
    tokenizer = ["transformers", "CLIPTokenizer"]
    return {
        "_class_name": "StableDiffusion3Pipeline",
        "_diffusers_version": _DIFFUSERS,
        "feature_extractor": absent,
        "image_encoder": absent,
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "text_encoder": encoder,
        "text_encoder_2": encoder,
        "text_encoder_3": absent,
        "tokenizer": tokenizer,
        "tokenizer_2": tokenizer,
        "tokenizer_3": absent,
        "transformer": ["diffusers", "SD3Transformer2DModel"],
        "vae": ["diffusers", "AutoencoderTiny"],
    }
