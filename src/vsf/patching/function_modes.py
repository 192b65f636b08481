"""Torch function modes that stand in for attention, as perturbed-attention guidance does."""

from collections.abc import Iterable, Iterator
from types import CodeType
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack
from torch.utils._device import DeviceContext

from vsf.errors import UnsupportedAttentionError

_KEEPS_EACH_TOKEN = "AttentionScoreSkipFunctionMode"
"""Of diffusers, where LayerSkipConfig has skip_attention_scores: attention returns the values as they are."""

_replaces: WeakKeyDictionary[TorchFunctionMode, bool] = WeakKeyDictionary()


def keeps_each_token(query: Tensor, key: Tensor) -> bool:
    """Whether an active mode has attention return each token's own value, so that there is nothing to guide.

    Raises UnsupportedAttentionError for a mode that stands in for attention in any other way.
    """
    kept = False
    for mode in _get_current_function_mode_stack():
        if type(mode).__name__ == _KEEPS_EACH_TOKEN:
            kept |= query.shape[2] == key.shape[2]
        elif not isinstance(mode, DeviceContext) and _replaces_attention(mode):
            raise UnsupportedAttentionError(
                f"the torch function mode {type(mode).__name__} stands in for the attention of a layer that is guided, "
                "which would bypass it: leave the mode, or do not guide"
            )
    return kept


def refuse_modes(layers: Iterable[nn.Module]) -> None:
    """Raise UnsupportedAttentionError for modes that stand in for the attention of layers in compiled code.

    There they can neither be seen nor be left to act.
    """
    names = [type(mode).__name__ for mode in _get_current_function_mode_stack() if _stands_in(mode)]
    for layer in layers:
        registry = vars(layer).get("_diffusers_hook")
        hooks = () if registry is None else registry.hooks.values()
        names += [type(hook).__name__ for hook in hooks if getattr(hook, "skip_attention_scores", False)]
    if names:
        raise UnsupportedAttentionError(
            f"{names[0]} stands in for the attention of layers that are guided, which cannot be followed in compiled "
            "code: do not compile the denoiser, or do without it"
        )


def _stands_in(mode: TorchFunctionMode) -> bool:
    if isinstance(mode, DeviceContext):
        return False
    return type(mode).__name__ == _KEEPS_EACH_TOKEN or _replaces_attention(mode)


def _replaces_attention(mode: TorchFunctionMode) -> bool:
    """Whether a mode's code names the attention function, or changes what it returns."""
    if mode not in _replaces:
        names = set(_names(type(mode).__torch_function__.__code__))
        _replaces[mode] = "scaled_dot_product_attention" in names or _changes_attention(mode)
    return _replaces[mode]


def _changes_attention(mode: TorchFunctionMode) -> bool:
    """Try the mode alone on four tokens."""
    tokens = torch.arange(8, dtype=torch.float32, device="cpu").reshape(1, 1, 4, 2) / 8
    attention = F.scaled_dot_product_attention
    with torch._C.DisableTorchFunction():
        expected = attention(tokens, tokens, tokens)
        got = mode.__torch_function__(attention, (Tensor,), (tokens, tokens, tokens), {})
        return not (isinstance(got, Tensor) and torch.allclose(got, expected, atol=1e-4))


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
