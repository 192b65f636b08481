"""Attention with a negative in it, from loose tensors."""

from vsf.attention.kernels import kernel_for
from vsf.attention.partial import Partial
from vsf.guidance import HostCall, guided_attention


def attend(method, query, key, value, layout, *, kind="joint", bias=None, scale=None, **ours):
    return guided_attention(method, HostCall(query, key, value, kind, bias, scale), layout, **ours)


def partial_attention(query, key, value, *, bias=None, scale=None):
    """Attend to some keys, keeping the log-sum-exp for `merge`."""
    return Partial(query, key, value, bias, scale, kernel_for(query, key, value, bias))
