"""The models of the speed benchmark: shapes of published ones with random weights, and what to call them with.

Speed does not depend on what the weights say. `small` builds the same kind of model with hardly any weights, to
rehearse on a CPU what needs a GPU.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import isqrt
from typing import Any

import diffusers
import torch
from torch import Tensor, nn

import vsf.tiny


@dataclass(frozen=True)
class Model:
    """A denoiser to time.

    build: (small, layers or None for all of them) -> the module. inputs: (module, batch, image tokens) -> its
    arguments. channels: of a negative's embedding.
    """

    build: Callable[[bool, int | None], nn.Module]
    inputs: Callable[[Any, int, int], dict[str, Any]]
    channels: Callable[[Any], int]
    dtype: torch.dtype = torch.bfloat16


def _sd3(width: int, layers: int, text: int, positions: int) -> Callable[[bool, int | None], nn.Module]:
    def build(small: bool, depth: int | None) -> nn.Module:
        heads = 2 if small else width // 64
        return diffusers.SD3Transformer2DModel(
            sample_size=128,
            num_layers=depth or (2 if small else layers),
            attention_head_dim=64,
            num_attention_heads=heads,
            caption_projection_dim=64 * heads,
            joint_attention_dim=64 if small else text,
            pooled_projection_dim=64 if small else 2048,
            pos_embed_max_size=positions,
            qk_norm="rms_norm",
        )

    return build


def _sd3_inputs(words: int) -> Callable[[Any, int, int], dict[str, Any]]:
    def inputs(model: Any, batch: int, tokens: int) -> dict[str, Any]:
        side, config = 2 * isqrt(tokens), model.config
        return {
            "hidden_states": torch.randn(batch, config.in_channels, side, side),
            "encoder_hidden_states": torch.randn(batch, words, config.joint_attention_dim),
            "pooled_projections": torch.randn(batch, config.pooled_projection_dim),
            "timestep": torch.full((batch,), 500.0),
        }

    return inputs


def _flux(small: bool, depth: int | None) -> nn.Module:
    layers = depth or (1 if small else None)
    sizes: dict[str, Any] = {} if layers is None else {"num_layers": layers, "num_single_layers": layers}
    if small:
        sizes |= {"num_attention_heads": 2, "joint_attention_dim": 64, "pooled_projection_dim": 64}
    return diffusers.FluxTransformer2DModel(guidance_embeds=False, **sizes)


def _flux_inputs(model: Any, batch: int, tokens: int) -> dict[str, Any]:
    side, words = isqrt(tokens), 512
    places = torch.zeros(side, side, 3)
    places[..., 1] += torch.arange(side)[:, None]
    places[..., 2] += torch.arange(side)[None]
    return {
        "hidden_states": torch.randn(batch, side * side, model.config.in_channels),
        "encoder_hidden_states": torch.randn(batch, words, model.config.joint_attention_dim),
        "pooled_projections": torch.randn(batch, model.config.pooled_projection_dim),
        "timestep": torch.full((batch,), 0.5),
        "img_ids": places.reshape(-1, 3),
        "txt_ids": torch.zeros(words, 3),
    }


def _qwen_image(small: bool, depth: int | None) -> nn.Module:
    sizes = {"num_attention_heads": 2, "joint_attention_dim": 64} if small else {}
    return diffusers.QwenImageTransformer2DModel(num_layers=depth or (2 if small else 60), **sizes)


def _qwen_image_inputs(model: Any, batch: int, tokens: int) -> dict[str, Any]:
    side, words = isqrt(tokens), 64
    return {
        "hidden_states": torch.randn(batch, side * side, model.config.in_channels),
        "encoder_hidden_states": torch.randn(batch, words, model.config.joint_attention_dim),
        "encoder_hidden_states_mask": torch.ones(batch, words, dtype=torch.long),
        "timestep": torch.full((batch,), 0.5),
        "img_shapes": [[(1, side, side)]] * batch,
    }


def _z_image(small: bool, depth: int | None) -> nn.Module:
    sizes = {"dim": 256, "n_heads": 2, "n_kv_heads": 2, "cap_feat_dim": 64, "n_refiner_layers": 1} if small else {}
    return diffusers.ZImageTransformer2DModel(n_layers=depth or (2 if small else 30), **sizes)


def _z_image_inputs(model: Any, batch: int, tokens: int) -> dict[str, Any]:
    side, config = 2 * isqrt(tokens), model.config
    return {
        "x": [torch.randn(config.in_channels, 1, side, side) for _ in range(batch)],
        "t": torch.full((batch,), 0.5),
        "cap_feats": [torch.randn(64, config.cap_feat_dim) for _ in range(batch)],
    }


def _wan(heads: int, layers: int, hidden: int) -> Callable[[bool, int | None], nn.Module]:
    def build(small: bool, depth: int | None) -> nn.Module:
        return diffusers.WanTransformer3DModel(
            num_attention_heads=2 if small else heads,
            attention_head_dim=128,
            text_dim=64 if small else 4096,
            ffn_dim=256 if small else hidden,
            num_layers=depth or (2 if small else layers),
        )

    return build


def _wan_inputs(model: Any, batch: int, tokens: int) -> dict[str, Any]:
    """Frames of 480 x 832 pixels, 1,560 tokens each; fewer tokens are one frame of a smaller size."""
    height, width = (60, 104) if tokens >= 1560 else (2 * isqrt(tokens), 2 * isqrt(tokens))
    frames = max(1, tokens // 1560)
    return {
        "hidden_states": torch.randn(batch, model.config.in_channels, frames, height, width),
        "timestep": torch.full((batch,), 500),
        "encoder_hidden_states": torch.randn(batch, 512, model.config.text_dim),
    }


def _sdxl(small: bool, depth: int | None) -> nn.Module:
    size = 64 if small else 320
    return diffusers.UNet2DConditionModel(
        sample_size=128,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(size, 2 * size, 4 * size),
        layers_per_block=1 if small or depth else 2,
        cross_attention_dim=64 if small else 2048,
        transformer_layers_per_block=1 if small or depth else (1, 2, 10),
        attention_head_dim=(size // 64, 2 * size // 64, 4 * size // 64),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=6 * 256 + (64 if small else 1280),
    )


def _sdxl_inputs(model: Any, batch: int, tokens: int) -> dict[str, Any]:
    """Image tokens are those of the first layer with attention, at half of the latents' size."""
    side = 2 * isqrt(tokens)
    pooled = model.config.projection_class_embeddings_input_dim - 6 * 256
    return {
        "sample": torch.randn(batch, 4, side, side),
        "timestep": torch.tensor(500),
        "encoder_hidden_states": torch.randn(batch, 77, model.config.cross_attention_dim),
        "added_cond_kwargs": {"text_embeds": torch.randn(batch, pooled), "time_ids": torch.zeros(batch, 6)},
    }


def _embedded(_: bool, depth: int | None) -> nn.Module:
    """The embedded model's own denoiser; with another number of layers one of its shape."""
    denoiser = vsf.tiny.load().transformer
    return denoiser if depth is None else type(denoiser).from_config({**denoiser.config, "num_layers": depth})


def _embedded_inputs(model: Any, batch: int, tokens: int) -> dict[str, Any]:
    inputs = _sd3_inputs(24)(model, batch, tokens)
    side = isqrt(tokens) * model.config.patch_size
    return {**inputs, "hidden_states": torch.randn(batch, model.config.in_channels, side, side)}


def _text_of(name: str) -> Callable[[Any], int]:
    return lambda model: getattr(model.config, name)


_JOINT, _CROSS, _VIDEO = _text_of("joint_attention_dim"), _text_of("cross_attention_dim"), _text_of("text_dim")

MODELS: dict[str, Model] = {
    "sd3.5-large": Model(_sd3(2432, 38, 4096, 192), _sd3_inputs(333), _JOINT),
    "flux.1": Model(_flux, _flux_inputs, _JOINT),
    "qwen-image": Model(_qwen_image, _qwen_image_inputs, _JOINT),
    "z-image": Model(_z_image, _z_image_inputs, _text_of("cap_feat_dim")),
    "sdxl": Model(_sdxl, _sdxl_inputs, _CROSS, torch.float16),
    "wan-1.3b": Model(_wan(12, 30, 8960), _wan_inputs, _VIDEO),
    "wan-14b": Model(_wan(40, 40, 13824), _wan_inputs, _VIDEO),
    "sd3-blocks": Model(_sd3(1536, 2, 4096, 96), _sd3_inputs(77), _JOINT, torch.float32),
    "wan-block": Model(_wan(12, 1, 8960), _wan_inputs, _VIDEO, torch.float32),
    "tiny": Model(_embedded, _embedded_inputs, _JOINT, torch.float32),
}


def moved(value: Any, device: str, dtype: torch.dtype) -> Any:
    """Move arguments of a model, floating-point ones into this dtype as well."""
    if isinstance(value, Tensor):
        return value.to(device, dtype if value.is_floating_point() else value.dtype)
    if isinstance(value, dict):
        return {name: moved(inner, device, dtype) for name, inner in value.items()}
    if isinstance(value, list):
        return [moved(inner, device, dtype) for inner in value]
    return value
