"""Fused attention kernels in the form that also returns the log-sum-exp.

They are the operations below torch's own `scaled_dot_product_attention`, which throws the log-sum-exp away. What torch
does around them (padding, alignment) is done here.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Kernel = Callable[[Tensor, Tensor, Tensor, Tensor | None, float | None], tuple[Tensor, Tensor]]
"""(query, key, value, additive bias, scale) -> (out, log_sum_exp)."""


def kernel_for(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Kernel | None:
    """Return the fused kernel torch's own attention would take, in the form that returns the log-sum-exp, or None.

    The switches of `torch.nn.attention.sdpa_kernel` count. None also where gradients are wanted.
    """
    inputs = (query, key, value) if bias is None else (query, key, value, bias)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs):
        return None
    if query.shape[-1] != value.shape[-1] or any(tensor.stride(-1) != 1 for tensor in (query, key, value)):
        return None
    if query.device.type == "cpu":
        return _cpu_flash if _allowed("flash") else None
    return _cuda_kernel(query, bias) if query.device.type == "cuda" else None


def _cuda_kernel(query: Tensor, bias: Tensor | None) -> Kernel | None:
    """Pick by dtype, bias and head dimension, in torch's order: flash, memory-efficient, cuDNN."""
    half, channels = query.dtype in (torch.float16, torch.bfloat16), query.shape[-1]
    ampere = torch.cuda.get_device_properties(query.device).major >= 8
    if _allowed("flash") and half and bias is None and channels <= 256 and ampere:
        return _cuda_flash
    if _allowed("mem_efficient") and (half or query.dtype == torch.float32):
        return _cuda_efficient
    if _allowed("cudnn") and half and channels <= 128 and ampere:
        return _cuda_cudnn
    return None


def _allowed(kernel: str) -> bool:
    """Whether torch's switch for this kernel is on; "flash" counts on the CPU too."""
    return bool(getattr(torch.backends.cuda, f"{kernel}_sdp_enabled")())


# What torch.compiler.assume_constant_result sets, without its import of the whole compiler (seconds of start-up).
_allowed._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _cpu_flash(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float | None
) -> tuple[Tensor, Tensor]:
    op = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    out, log_sum_exp = op(query, key, value, attn_mask=bias, scale=scale)
    return out, log_sum_exp


def _cuda_flash(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float | None
) -> tuple[Tensor, Tensor]:
    assert bias is None
    op = torch.ops.aten._scaled_dot_product_flash_attention
    results = op(*_padded(query, key, value), scale=_true_scale(query, scale))
    return _trimmed(query, results[0], results[1])


def _cuda_efficient(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float | None
) -> tuple[Tensor, Tensor]:
    op = torch.ops.aten._scaled_dot_product_efficient_attention
    results = op(*_padded(query, key, value), _aligned(bias, query, key), True, scale=_true_scale(query, scale))
    return _trimmed(query, results[0], results[1])


def _cuda_cudnn(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float | None
) -> tuple[Tensor, Tensor]:
    op = torch.ops.aten._scaled_dot_product_cudnn_attention
    results = op(*_padded(query, key, value), _aligned(bias, query, key), True, scale=_true_scale(query, scale))
    return _trimmed(query, results[0], results[1])


def _padded(*tensors: Tensor) -> list[Tensor]:
    """Fill the head dimension up to a multiple of 8 with zeros, which change no logit."""
    missing = -tensors[0].shape[-1] % 8
    return [F.pad(tensor, (0, missing)) for tensor in tensors] if missing else list(tensors)


def _true_scale(query: Tensor, scale: float | None) -> float:
    """The scale of the unpadded head dimension."""
    return query.shape[-1] ** -0.5 if scale is None else scale


def _aligned(bias: Tensor | None, query: Tensor, key: Tensor) -> Tensor | None:
    """Expand the bias to every row, with rows that start at multiples of 16 numbers in memory as the kernels demand."""
    if bias is None:
        return None
    keys = key.shape[2]
    rows = bias.expand(*bias.shape[:-1], keys)
    starts = (keys, rows.storage_offset(), *rows.stride()[:-1])
    if rows.stride(-1) != 1 or any(start % 16 for start in starts):
        rows = F.pad(rows, (0, -keys % 16)).contiguous()[..., :keys]
    return rows.expand(*query.shape[:3], keys)


def _trimmed(query: Tensor, out: Tensor, log_sum_exp: Tensor) -> tuple[Tensor, Tensor]:
    """Cut off the padding: channels of the output, rows of the log-sum-exp (some ops round them up to 32)."""
    flat = log_sum_exp.squeeze(-1) if log_sum_exp.dim() == 4 else log_sum_exp
    return out[..., : query.shape[-1]], flat[..., : query.shape[2]]
