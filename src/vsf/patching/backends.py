"""The attention backend that a diffusers model is set to, so that guided layers go on using it.

`model.set_attention_backend("flash")`, `attention_backend("sage")` and the like choose the function that
`dispatch_attention_fn` calls. A backend that can return its log-sum-exp is asked for it; with any other, each result is
made of plain calls.
"""

import logging
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from torch import Tensor

from vsf.attention.kernels import Kernel, native_kernel
from vsf.attention.partial import HostAttention
from vsf.patching.hosts import CallArguments

logger = logging.getLogger(__name__)


class _LogSumExp(NamedTuple):
    """The option that asks a backend for its log-sum-exp, and whether that comes as (batch, heads, queries)."""

    option: str = "return_lse"
    heads_first: bool = True


# As of diffusers 0.42. Backends not listed return none, or (packed ones, flex) not in a form that can be used.
_LOG_SUM_EXPS = {
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
_TAKES_NO_BIAS = {
    *_LOG_SUM_EXPS,
    "sage_blackwell_hub",
    "_native_flash",
    "_native_xla",
    "_flash_varlen_3",
    "sage_varlen",
}


def backend_attention(dispatch: Callable[..., Any], query: Tensor, options: CallArguments) -> HostAttention | None:
    """Return the attention of the backend that diffusers would use for a call.

    Args:
        dispatch: diffusers' `dispatch_attention_fn`.
        query: of the call; its device decides which native kernel a backend stands for.
        options: keyword arguments of the call.

    Returns:
        The backend's attention, None for the default backend, which is torch's own attention.
    """
    name = _backend_name(dispatch, options.get("backend"))
    if name == "native":
        return None
    attention_kwargs = options.get("attention_kwargs") or {}
    # A backend that is set for the whole process is not named in the call; then it is not named here either.
    backend = {} if options.get("backend") is None else {"backend": options.get("backend")}

    def plain(
        query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None, scale: float | None = None
    ) -> Tensor:
        inputs = (tensor.transpose(1, 2) for tensor in (query, key, value))
        out = dispatch(*inputs, attn_mask=bias, scale=scale, attention_kwargs=attention_kwargs, **backend)
        return out.transpose(1, 2)

    def fused(
        query: Tensor, key: Tensor, value: Tensor, *, attn_mask: Tensor | None, scale: float | None
    ) -> tuple[Tensor, Tensor]:
        inputs = (tensor.transpose(1, 2) for tensor in (query, key, value))
        kwargs = {**attention_kwargs, form.option: True}
        out, log_sum_exp = dispatch(*inputs, attn_mask=attn_mask, scale=scale, attention_kwargs=kwargs, **backend)
        return out.transpose(1, 2), log_sum_exp if form.heads_first else log_sum_exp.transpose(1, 2)

    form = _LOG_SUM_EXPS.get(name, _LogSumExp())
    kernel: Kernel | None = fused if name in _LOG_SUM_EXPS else native_kernel(name, query)
    takes_bias = name not in _TAKES_NO_BIAS
    if kernel is None and not takes_bias:
        _warn_once(name)
    return HostAttention(plain, kernel, takes_bias)


def _backend_name(dispatch: Any, backend: object) -> str:
    if backend is None:
        # Read from the module of the function: diffusers is not imported here.
        backend, _ = dispatch.__globals__["_AttentionBackendRegistry"].get_active_backend()
    return str(getattr(backend, "value", backend))


@cache
def _warn_once(name: str) -> None:
    logger.warning(
        'attention backend "%s" gives no log-sum-exp and takes no mask: calls of guided layers that need a mask, for '
        "an offset, weights or negatives of several lengths, are made by torch's own attention",
        name,
    )
