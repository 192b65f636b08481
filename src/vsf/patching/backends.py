"""The attention backend that a diffusers model is set to: guided layers go on attending with it.

`model.set_attention_backend("flash")`, `attention_backend("sage")` and the like choose what `dispatch_attention_fn`
calls. Where the backend gives its log-sum-exp it is asked for that, else each result is made of plain calls of it.
"""

import logging
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

from torch import Tensor

from vsf.attention.kernels import Kernel, native_kernel
from vsf.attention.partial import HostAttention

logger = logging.getLogger(__name__)


class _LogSumExp(NamedTuple):
    """How a backend is asked for its log-sum-exp, and whether that comes as (batch, heads, queries)."""

    option: str = "return_lse"
    heads_first: bool = True


# As of diffusers 0.42. Backends that are not here give none, or (packed ones, flex) not in a form that can be used.
_GIVES = {
    "flash": _LogSumExp(),
    "flash_hub": _LogSumExp(),
    "flash_4_hub": _LogSumExp(),
    "_flash_3": _LogSumExp(heads_first=False),
    "_flash_3_hub": _LogSumExp("return_attn_probs"),
    "aiter_fa2_hub": _LogSumExp(),
    "sage": _LogSumExp(),
    "sage_hub": _LogSumExp(),
    "_sage_qk_int8_pv_fp8_cuda": _LogSumExp(),
    "_sage_qk_int8_pv_fp8_cuda_sm90": _LogSumExp(),
    "_sage_qk_int8_pv_fp16_cuda": _LogSumExp(),
    "_sage_qk_int8_pv_fp16_triton": _LogSumExp(),
}
_TAKES_NO_BIAS = {*_GIVES, "sage_blackwell_hub", "_native_flash", "_native_xla", "_flash_varlen_3", "sage_varlen"}


def backend_attention(dispatch: Callable[..., Any], query: Tensor, options: Mapping[str, Any]) -> HostAttention | None:
    """Return the attention of the backend that diffusers' `dispatch` would take with these options.

    None for its default, which is torch's own attention.
    """
    name = _backend_name(dispatch, options.get("backend"))
    if name == "native":
        return None
    given = options.get("attention_kwargs") or {}
    chosen = {"backend": options.get("backend")} if options.get("backend") is not None else {}

    def plain(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None, scale: float | None = None) -> Any:
        inputs = (tensor.transpose(1, 2) for tensor in (query, key, value))
        out = dispatch(*inputs, attn_mask=bias, scale=scale, attention_kwargs=given, **chosen)
        return out.transpose(1, 2)

    def fused(query: Tensor, key: Tensor, value: Tensor, *, attn_mask: Tensor | None, scale: float | None) -> Any:
        inputs = (tensor.transpose(1, 2) for tensor in (query, key, value))
        asked = {**given, gives.option: True}
        out, log_sum_exp = dispatch(*inputs, attn_mask=attn_mask, scale=scale, attention_kwargs=asked, **chosen)
        return out.transpose(1, 2), log_sum_exp if gives.heads_first else log_sum_exp.transpose(1, 2)

    gives = _GIVES.get(name, _LogSumExp())
    kernel: Kernel | None = fused if name in _GIVES else native_kernel(name, query)
    takes_bias = name not in _TAKES_NO_BIAS
    if kernel is None and not takes_bias:
        _say_once(name)
    return HostAttention(plain, kernel, takes_bias)


def _backend_name(dispatch: Any, backend: Any) -> str:
    if backend is None:
        backend, _ = dispatch.__globals__["_AttentionBackendRegistry"].get_active_backend()
    return str(getattr(backend, "value", backend))


@cache
def _say_once(name: str) -> None:
    logger.warning(
        'attention backend "%s" gives no log-sum-exp and takes no mask: calls of guided layers that need a mask, for '
        "an offset, weights or negatives of several lengths, are made by torch's own attention",
        name,
    )
