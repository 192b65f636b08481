"""Tiny random models inside a real ComfyUI, on the CPU: what `stub` offers, where COMFYUI_PATH points to a host."""

import contextlib
import dataclasses
import importlib
import os
import sys

import torch

from comfyui.cases import Case

PATH = os.environ["COMFYUI_PATH"]


def _import_host() -> None:
    """Import the host as its own launcher would on a machine without an accelerator."""
    # The torchvision on PyPI is built for CUDA. Its operators have to be known before it is imported without one.
    with contextlib.suppress(RuntimeError):
        torch.library.define("torchvision::nms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        torch.library.define("torchvision::qnms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    sys.path.insert(0, PATH)
    argv = sys.argv
    sys.argv = [argv[0], "--cpu", "--use-pytorch-cross-attention"]
    try:
        importlib.import_module("comfy.options").enable_args_parsing()
        importlib.import_module("comfy.cli_args")
    finally:
        sys.argv = argv


_import_host()

import comfy.model_base
import comfy.model_patcher
import comfy.sample
import comfy.samplers
import comfy.supported_models
from comfy.ldm.modules.attention import optimized_attention as _optimized_attention

VERSION = importlib.import_module("comfyui_version").__version__


def _model(configuration: str, base: str, unet: dict, **options):
    """Build a model of the host with random weights from the settings of its denoiser."""
    config = getattr(comfy.supported_models, configuration)(unet)
    config.unet_config = {**unet, "dtype": torch.float32}
    config.manual_cast_dtype = None
    model = getattr(comfy.model_base, base)(config, **options)
    generator = torch.Generator().manual_seed(0)
    tensors = [*model.diffusion_model.named_parameters(), *model.diffusion_model.named_buffers()]
    with torch.no_grad():
        for name, tensor in tensors:
            if not tensor.is_floating_point():
                continue
            random = torch.randn(tensor.shape, generator=generator) * 0.08
            is_gain = tensor.dim() == 1 and "weight" in name and any(part in name for part in ("norm", "ln_", "scale"))
            tensor.copy_(1 + random if is_gain or name.endswith(".scale") else random)
    model.eval()
    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(model, load_device=cpu, offload_device=cpu)


def _settings(module: str, parameters: str, **settings) -> dict:
    """Leave out what this release of the host does not know, of settings that came later."""
    known = {field.name for field in dataclasses.fields(getattr(importlib.import_module(module), parameters))}
    return {name: value for name, value in settings.items() if name in known or name == "image_model"}


_FLUX = dict(
    image_model="flux", in_channels=16, out_channels=16, vec_in_dim=24, context_in_dim=20, hidden_size=64,
    mlp_ratio=2.0, num_heads=2, depth=2, depth_single_blocks=2, axes_dim=[8, 12, 12], theta=10000, patch_size=2,
    qkv_bias=True, txt_ids_dims=[],
)  # fmt: skip
_FLUX_SHAPE = (1, 16, 8, 8)
_VIDEO_SHAPE = (1, 16, 2, 8, 8)


def _sd3(self_attention: bool):
    embedder = {"target": "torch.nn.Linear", "params": {"in_features": 20, "out_features": 128}}
    unet = dict(
        in_channels=16, patch_size=2, depth=2, pos_embed_max_size=8, num_patches=64, pos_embed_scaling_factor=None,
        adm_in_channels=24, context_embedder_config=embedder, qk_norm="rms", input_size=None,
        x_block_self_attn_layers=[0] if self_attention else [],
    )  # fmt: skip
    return _model("SD3", "SD3", unet)


def _flux(schnell: bool):
    unet = _settings("comfy.ldm.flux.model", "FluxParams", **_FLUX, guidance_embed=not schnell)
    kind = comfy.model_base.ModelType.FLOW if schnell else comfy.model_base.ModelType.FLUX
    return _model("FluxSchnell" if schnell else "Flux", "Flux", unet, model_type=kind)


def _flux2():
    unet = dict(
        image_model="flux2", in_channels=128, out_channels=128, vec_in_dim=None, context_in_dim=20, hidden_size=64,
        mlp_ratio=3.0, num_heads=2, depth=2, depth_single_blocks=2, axes_dim=[8, 8, 8, 8], theta=2000, patch_size=1,
        qkv_bias=False, guidance_embed=False, txt_ids_dims=[3], global_modulation=True, mlp_silu_act=True,
        ops_bias=False, default_ref_method="index", ref_index_scale=10.0,
    )  # fmt: skip
    return _model("Flux2", "Flux2", unet, model_type=comfy.model_base.ModelType.FLUX)


def _chroma():
    settings = {**_FLUX, "in_channels": 64, "out_channels": 64, "vec_in_dim": 0}
    unet = _settings(
        "comfy.ldm.chroma.model", "ChromaParams", **settings, in_dim=64, out_dim=64, hidden_dim=32, n_layers=1
    )  # fmt: skip
    return _model("Chroma", "Chroma", {**unet, "image_model": "chroma"})


def _qwen():
    unet = dict(
        image_model="qwen_image", in_channels=64, out_channels=16, num_layers=2, attention_head_dim=32,
        num_attention_heads=2, joint_attention_dim=20, axes_dims_rope=(8, 12, 12), patch_size=2,
    )  # fmt: skip
    return _model("QwenImage", "QwenImage", unet)


def _wan(kind: str):
    unet = dict(
        image_model="wan2.1", model_type=kind, patch_size=(1, 2, 2), text_len=16, in_dim=36 if kind == "i2v" else 16,
        dim=96, ffn_dim=64, freq_dim=32, text_dim=20, out_dim=16, num_heads=2, num_layers=2, cross_attn_norm=True,
    )  # fmt: skip
    if kind == "vace":
        return _model("WAN21_Vace", "WAN21_Vace", {**unet, "vace_layers": 1, "vace_in_dim": 96})
    return _model("WAN21_T2V", "WAN21", unet, image_to_video=kind == "i2v")


def _lumina():
    unet = dict(
        image_model="lumina2", patch_size=2, in_channels=16, dim=64, n_layers=2, n_refiner_layers=1, n_heads=2,
        n_kv_heads=1, multiple_of=16, qk_norm=True, cap_feat_dim=20, axes_dims=[8, 12, 12], axes_lens=[64, 64, 64],
    )  # fmt: skip
    return _model("Lumina2", "Lumina2", unet)


def _zimage():
    unet = dict(
        image_model="lumina2", patch_size=2, in_channels=16, dim=256, n_layers=2, n_refiner_layers=1, n_heads=2,
        n_kv_heads=2, multiple_of=16, ffn_dim_multiplier=8 / 3, qk_norm=True, cap_feat_dim=20,
        axes_dims=[32, 48, 48], axes_lens=[64, 64, 64], rope_theta=256.0, z_image_modulation=True, time_scale=1000.0,
        pad_tokens_multiple=32,
    )  # fmt: skip
    return _model("ZImage", "Lumina2", unet)


def _hunyuan_video():
    settings = {**_FLUX, "theta": 256, "patch_size": [1, 2, 2], "guidance_embed": True}
    unet = _settings(
        "comfy.ldm.hunyuan_video.model", "HunyuanVideoParams", **settings, byt5=False, meanflow=False,
        use_cond_type_embedding=False, vision_in_dim=None, meanflow_sum=False,
    )  # fmt: skip
    return _model("HunyuanVideo", "HunyuanVideo", {**unet, "image_model": "hunyuan_video"})


def _krea2():
    unet = dict(
        image_model="krea2", features=64, tdim=32, txtdim=20, heads=2, kvheads=1, multiplier=2, layers=2, patch=2,
        channels=16, txtlayers=3, txtheads=2, txtkvheads=2,
    )  # fmt: skip
    return _model("Krea2", "Krea2", unet)


def _ltxv():
    unet = dict(
        image_model="ltxv", in_channels=16, cross_attention_dim=64, attention_head_dim=32, num_attention_heads=2,
        caption_channels=20, num_layers=2,
    )  # fmt: skip
    return _model("LTXV", "LTXV", unet)


def _unet(sdxl: bool):
    unet = dict(
        image_size=32, in_channels=4, out_channels=4, model_channels=32, num_res_blocks=[1, 1], channel_mult=[1, 2],
        transformer_depth=[1, 1], context_dim=20, num_heads=-1, num_head_channels=16, use_spatial_transformer=True,
        transformer_depth_middle=1, transformer_depth_output=[1, 1, 1, 1], legacy=False, use_temporal_attention=False,
        use_linear_in_transformer=sdxl,
    )  # fmt: skip
    if sdxl:
        return _model("SDXL", "SDXL", {**unet, "num_classes": "sequential", "adm_in_channels": 2816})
    return _model("SD15", "BaseModel", unet)


MODELS = {
    "sd3": (lambda: _sd3(False), Case("sd3", _FLUX_SHAPE)),
    "sd3.5-medium": (lambda: _sd3(True), Case("sd3.5-medium", _FLUX_SHAPE)),
    "flux-schnell": (lambda: _flux(True), Case("flux-schnell", _FLUX_SHAPE)),
    "flux-dev": (lambda: _flux(False), Case("flux-dev", _FLUX_SHAPE)),
    "flux2": (_flux2, Case("flux2", (1, 128, 4, 4), left_padded=512)),
    "chroma": (_chroma, Case("chroma", _FLUX_SHAPE)),
    "qwen-image": (_qwen, Case("qwen-image", (1, 16, 1, 8, 8))),
    "wan-t2v": (lambda: _wan("t2v"), Case("wan-t2v", _VIDEO_SHAPE, pooled=0, kind="cross", image=32)),
    "wan-i2v": (lambda: _wan("i2v"), Case("wan-i2v", _VIDEO_SHAPE, pooled=0, kind="cross", image=32)),
    "wan-vace": (lambda: _wan("vace"), Case("wan-vace", _VIDEO_SHAPE, pooled=0, kind="cross", image=32)),
    "lumina2": (_lumina, Case("lumina2", _FLUX_SHAPE, pooled=0, masked=True)),
    "z-image": (_zimage, Case("z-image", _FLUX_SHAPE, pooled=0, filling=16, text_multiple=32)),
    "hunyuan-video": (_hunyuan_video, Case("hunyuan-video", _VIDEO_SHAPE, image=32)),
    "krea2": (_krea2, Case("krea2", (1, 16, 1, 8, 8), channels=60, pooled=0)),
    "ltxv": (_ltxv, Case("ltxv", _VIDEO_SHAPE, pooled=0, masked=True, kind="cross", image=128)),
    "sd1.5": (lambda: _unet(False), Case("sd1.5", (1, 4, 8, 8), kind="cross", image=64, time=5.0)),
    "sdxl": (lambda: _unet(True), Case("sdxl", (1, 4, 8, 8), pooled=1280, kind="cross", image=64, time=5.0)),
}
_NEWER = {"flux2": "Flux2", "z-image": "ZImage", "krea2": "Krea2"}
for _name, _configuration in _NEWER.items():
    if not hasattr(comfy.supported_models, _configuration):
        del MODELS[_name]


def make(name: str):
    """A MODEL with random weights, and its case."""
    build, case = MODELS[name]
    patcher = build()
    if name == "hunyuan-video":  # whose blocks had the image first until some release of early 2026
        first = hasattr(patcher.model.diffusion_model.double_blocks[0], "flipped_img_txt")
        case = dataclasses.replace(case, image_first=first)
    return patcher, case


def sample(patcher, case: Case, positive, negative=None, cfg=1.0, steps=3, batched=True, seed=1):
    """A run of the host's Euler sampler under classifier-free guidance."""
    together = comfy.samplers.can_concat_cond
    if not batched:
        comfy.samplers.can_concat_cond = lambda first, second: first is second
    try:
        return comfy.sample.sample(
            patcher, case.latents(seed), steps, cfg, "euler", "simple", positive, negative or positive,
            torch.zeros(case.shape), disable_pbar=True, seed=0,
        )  # fmt: skip
    finally:
        comfy.samplers.can_concat_cond = together


def dual_cfg(patcher, case: Case, first, second, negative):
    """A run of the host's guider with two positives."""
    guider = importlib.import_module("comfy_extras.nodes_custom_sampler").Guider_DualCFG(patcher)
    guider.set_conds(first, second, negative)
    guider.set_cfg(3.0, 2.0)
    sigmas = comfy.samplers.calculate_sigmas(patcher.get_model_object("model_sampling"), "simple", 3)
    euler = comfy.samplers.sampler_object("euler")
    return guider.sample(case.latents(1), torch.zeros(case.shape), euler, sigmas, disable_pbar=True, seed=0)


DUAL_CFG_NEGATIVE = 0
"""The number under which the guider with two positives calls its negative."""


def attend_plainly(q, k, v, heads):
    """The host's own attention, for replacements."""
    return _optimized_attention(q, k, v, heads)
