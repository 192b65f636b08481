"""Attention with a negative in it, from loose tensors."""

from vsf.guidance import HostCall, guided_attention


def attend(method, query, key, value, layout, *, kind="joint", bias=None, scale=None, **ours):
    return guided_attention(method, HostCall(query, key, value, kind, bias, scale), layout, **ours)
