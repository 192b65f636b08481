"""Torch's fused attention kernels, called so that they also return the log-sum-exp.

They are the operations below `scaled_dot_product_attention`, which drops the log-sum-exp. The padding and
alignment that torch does around them are done here. Flash attention 3 and 4, once activated by
`torch.nn.attention.activate_flash_attention_impl`, replace the flash operation itself, so they are used here too.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Kernel = Callable[..., tuple[Tensor, Tensor]]
"""kernel(query, key, value, attn_mask=bias, scale=scale) -> (out, log_sum_exp); the bias is None or additive."""

CPU_FLASH: Kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
"""The one kernel of the CPU; it needs no padding."""

# The numbers of torch.nn.attention.SDPBackend.
_FLASH = 1
_EFFICIENT = 2
_CUDNN = 3


def kernel_for(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Kernel | None:
    """Return the fused kernel that torch's own attention would take, None where it would take none.

    The switches of `torch.nn.attention.sdpa_kernel` count. Where gradients are wanted there is none: the log-sum-exp of
    a fused kernel has no gradient.
    """
    if not may_fuse(query, key, value):
        return None
    if bias is not None and bias.requires_grad and torch.is_grad_enabled():
        return None
    return best_kernel(query.device, query.dtype, query.shape[-1], biased=bias is not None)


def may_fuse(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Tell whether a fused kernel can take these tensors: no gradients wanted, channels contiguous in memory."""
    if torch.is_grad_enabled() and (query.requires_grad or key.requires_grad or value.requires_grad):
        return False
    return query.shape[-1] == value.shape[-1] and query.stride(-1) == key.stride(-1) == value.stride(-1) == 1


def best_kernel(device: torch.device, dtype: torch.dtype, channels: int, *, biased: bool) -> Kernel | None:
    """Return the first fused kernel in torch's own order on this device that can make this kind of call."""
    if device.type == "cpu":
        return CPU_FLASH if _allowed("flash") else None
    if device.type != "cuda":
        return None
    half = dtype in (torch.float16, torch.bfloat16)
    ampere = torch.cuda.get_device_properties(device).major >= 8
    can_make = {
        _FLASH: half and not biased and channels <= 256 and ampere,
        _EFFICIENT: half or dtype == torch.float32,
        _CUDNN: half and channels <= 128 and ampere,
    }
    kernels: dict[int, tuple[str, Kernel]] = {
        _FLASH: ("flash", _cuda_flash),
        _EFFICIENT: ("mem_efficient", _cuda_efficient),
        _CUDNN: ("cudnn", _cuda_cudnn),
    }
    for number in _torchs_order(str(device)):
        if can_make.get(number):
            switch, kernel = kernels[number]
            if _allowed(switch):
                return kernel
    return None


def native_kernel(backend: str, query: Tensor) -> Kernel | None:
    """Return the kernel that a diffusers backend called "_native_..." uses, None where it is not one of these."""
    if query.device.type != "cuda":
        return None
    kernels = {"_native_flash": _cuda_flash, "_native_cudnn": _cuda_cudnn, "_native_efficient": _cuda_efficient}
    return kernels.get(backend)


def name_of(kernel: Kernel) -> str:
    """Return the usual name of a kernel, such as "cuda flash"."""
    return "cpu flash" if kernel is CPU_FLASH else kernel.__name__.strip("_").replace("_", " ")


def _allowed(kernel: str) -> bool:
    """Tell whether torch's switch for this kernel is on; "flash" counts on the CPU too."""
    return bool(getattr(torch.backends.cuda, f"{kernel}_sdp_enabled")())


def _torchs_order(device: str) -> tuple[int, ...]:
    """Return the numbers of the kernels in the order in which torch tries them on this GPU: cuDNN first on Hopper."""
    if not hasattr(torch._C, "_get_sdp_priority_order"):  # before torch 2.6
        return (_FLASH, _EFFICIENT, _CUDNN)
    probe = torch.empty(1, 1, 8, 64, device=device, dtype=torch.float16)
    torch._fused_sdp_choice(probe, probe, probe)  # torch sets the order when it first chooses a kernel
    return tuple(torch._C._get_sdp_priority_order())


# Lets compiled code take their results for constants: torch's switches and priorities cannot be traced. It is the mark
# of torch.compiler.assume_constant_result, set without its import of the whole compiler (seconds of start-up).
_allowed._dynamo_marked_constant = True  # type: ignore[attr-defined]
_torchs_order._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _cuda_flash(
    query: Tensor, key: Tensor, value: Tensor, *, attn_mask: Tensor | None = None, scale: float | None = None
) -> tuple[Tensor, Tensor]:
    assert attn_mask is None
    op = torch.ops.aten._scaled_dot_product_flash_attention
    results = op(*_padded(query, key, value), scale=_true_scale(query, scale))
    return _trimmed(query, results)


def _cuda_efficient(
    query: Tensor, key: Tensor, value: Tensor, *, attn_mask: Tensor | None = None, scale: float | None = None
) -> tuple[Tensor, Tensor]:
    op = torch.ops.aten._scaled_dot_product_efficient_attention
    # True: compute the log-sum-exp too.
    results = op(*_padded(query, key, value), _aligned(attn_mask, query, key), True, scale=_true_scale(query, scale))
    return _trimmed(query, results)


def _cuda_cudnn(
    query: Tensor, key: Tensor, value: Tensor, *, attn_mask: Tensor | None = None, scale: float | None = None
) -> tuple[Tensor, Tensor]:
    op = torch.ops.aten._scaled_dot_product_cudnn_attention
    # True: compute the log-sum-exp too.
    results = op(*_padded(query, key, value), _aligned(attn_mask, query, key), True, scale=_true_scale(query, scale))
    return _trimmed(query, results)


def _padded(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Fill the head dimension up to a multiple of 8 with zeros, which change no logit."""
    missing = -query.shape[-1] % 8
    if not missing:
        return query, key, value
    return F.pad(query, (0, missing)), F.pad(key, (0, missing)), F.pad(value, (0, missing))


def _true_scale(query: Tensor, scale: float | None) -> float:
    """Return the scale of the logits for the head dimension before padding."""
    return query.shape[-1] ** -0.5 if scale is None else scale


def _aligned(bias: Tensor | None, query: Tensor, key: Tensor) -> Tensor | None:
    """Expand the bias to every row, with rows that start at multiples of 16 numbers in memory: kernels require it."""
    if bias is None:
        return None
    keys = key.shape[2]
    rows = bias.expand(*bias.shape[:-1], keys)
    starts = (keys, rows.storage_offset(), *rows.stride()[:-1])
    if rows.stride(-1) != 1 or any(start % 16 for start in starts):
        rows = F.pad(rows, (0, -keys % 16)).contiguous()[..., :keys]
    return rows.expand(*query.shape[:3], keys)


def _trimmed(query: Tensor, results: Any) -> tuple[Tensor, Tensor]:
    """Cut off the padding: channels of the output, rows of the log-sum-exp (some ops round them up to 32)."""
    out, log_sum_exp, *_ = results
    flat = log_sum_exp.squeeze(-1) if log_sum_exp.dim() == 4 else log_sum_exp
    return out[..., : query.shape[-1]], flat[..., : query.shape[2]]
