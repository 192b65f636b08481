"""Torch function modes that replace attention, as perturbed-attention guidance does.

Such a mode intercepts torch's own attention function, which a guided layer does not call, so it would be bypassed.
"""

from collections.abc import Iterable
from types import CodeType
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack
from torch.utils._device import DeviceContext

from vsf.errors import UnsupportedAttentionError

_KEEPS_EACH_TOKEN = "AttentionScoreSkipFunctionMode"
"""The mode of diffusers for LayerSkipConfig(skip_attention_scores=True): attention returns the values unchanged."""

_replaces: WeakKeyDictionary[TorchFunctionMode, bool] = WeakKeyDictionary()
"""Answers of `_replaces_attention`, which tries a mode out."""


def keeps_each_token(query: Tensor, key: Tensor) -> bool:
    """Tell whether an active mode makes attention return each token's own value, so that there is nothing to guide.

    Raises:
        UnsupportedAttentionError: a mode replaces attention in any other way.
    """
    keeps = False
    for mode in _get_current_function_mode_stack():
        if type(mode).__name__ == _KEEPS_EACH_TOKEN:
            keeps |= query.shape[2] == key.shape[2]
        elif not isinstance(mode, DeviceContext) and _replaces_attention(mode):
            raise UnsupportedAttentionError(
                f"the torch function mode {type(mode).__name__} stands in for the attention of a layer that is guided, "
                "which would bypass it: leave the mode, or do not guide"
            )
    return keeps


def refuse_modes(layers: Iterable[nn.Module]) -> None:
    """Raise UnsupportedAttentionError for modes that replace the attention of layers in compiled code.

    While the code is compiled they cannot be seen, and afterwards they have no effect. Hooks of diffusers that enter
    such a mode inside a layer count too.
    """
    names = []
    for mode in _get_current_function_mode_stack():
        if _affects_attention(mode):
            names.append(type(mode).__name__)
    for layer in layers:
        registry = vars(layer).get("_diffusers_hook")
        hooks = () if registry is None else registry.hooks.values()
        for hook in hooks:
            if getattr(hook, "skip_attention_scores", False):
                names.append(type(hook).__name__)
    if names:
        raise UnsupportedAttentionError(
            f"{names[0]} stands in for the attention of layers that are guided, which cannot be followed in compiled "
            "code: do not compile the denoiser, or do without it"
        )


def _affects_attention(mode: TorchFunctionMode) -> bool:
    if isinstance(mode, DeviceContext):
        return False
    return type(mode).__name__ == _KEEPS_EACH_TOKEN or _replaces_attention(mode)


def _replaces_attention(mode: TorchFunctionMode) -> bool:
    """Tell whether a mode's code names the attention function, or changes its results."""
    if mode not in _replaces:
        names = names_in(type(mode).__torch_function__.__code__)
        _replaces[mode] = "scaled_dot_product_attention" in names or _changes_attention(mode)
    return _replaces[mode]


def _changes_attention(mode: TorchFunctionMode) -> bool:
    """Try the mode by itself on four tokens."""
    tokens = torch.arange(8, dtype=torch.float32, device="cpu").reshape(1, 1, 4, 2) / 8
    attention = F.scaled_dot_product_attention
    with torch._C.DisableTorchFunction():
        expected = attention(tokens, tokens, tokens)
        actual = mode.__torch_function__(attention, (Tensor,), (tokens, tokens, tokens), {})
        return not (isinstance(actual, Tensor) and torch.allclose(actual, expected, atol=1e-4))


def names_in(code: CodeType) -> set[str]:
    """Return the global and attribute names in a piece of code, comprehensions and inner functions included."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= names_in(constant)
    return names
