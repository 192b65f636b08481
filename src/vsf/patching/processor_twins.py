"""Processor twins: attention layers run their own processors' code, but with another attention function.

A processor's `__call__` is used unchanged; only the names under which that code finds its attention function are bound
to another one, in a copy of its globals. No code of the host is repeated here.
"""

import itertools
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from types import FunctionType, ModuleType
from typing import Any

import torch.nn.functional
from torch import Tensor, nn

from vsf.errors import UnsupportedAttentionError
from vsf.patching.backends import backend_attention
from vsf.patching.function_modes import names_in

Attend = Callable[[Tensor, Tensor, Tensor, Mapping[str, Any]], Tensor | None]
"""attend(query, key, value, options), on (batch, heads, tokens, channels); None leaves the call to the host."""

Around = Callable[[Any, Callable[[], Any]], Any]
"""around(attend, call) makes a processor's whole call and returns its output."""

_DISPATCH = "dispatch_attention_fn"
_TWIN = "_vsf_twin"
_FUSED = "scaled_dot_product_attention"
_OPTIONS = ("attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")
"""The options of both attention functions, in the order in which both take them."""

_shadow_numbers = itertools.count(1)


class ProcessorTwins:
    """Twins of the processors of some attention layers, in place only while a block runs.

    Between blocks the layers hold their own processors, so that anything the host does with them (fusing, replacing,
    copying, saving) never meets a twin. A twin shares its processor's attributes: one that is set on either shows on
    both. Layers are held by weak references.
    """

    def __init__(self, layers: Mapping[str, tuple[nn.Module, Attend]], around: Around | None = None) -> None:
        """Take the layers, and check that their attention can be replaced.

        Args:
            layers: by name, each layer's module and the attention function to use in it.
            around: makes the whole call of a processor; by default it is just called.

        Raises:
            UnsupportedAttentionError: a processor's code calls no attention function that can be replaced.
        """
        self._layers = {name: (weakref.ref(module), attend) for name, (module, attend) in layers.items()}
        self._around = around
        self._twins: dict[str, tuple[Any, Any]] = {}
        self._classes: dict[tuple[type, Attend], type] = {}
        self._shadows: dict[str, ModuleType] = {}
        for name, (module, _) in layers.items():
            require_attention(name, module)

    def layers(self) -> Iterator[tuple[Any, Any]]:
        """Yield each layer's module, None if it is gone, and the attention function to use in it."""
        for module, attend in self._layers.values():
            yield module(), attend

    def forget(self) -> None:
        """Drop the twins and their processors; the classes made for them stay, as compiled code has guards on them."""
        self._twins.clear()

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Replace the processors by their twins, and put the very same processors back after the block."""
        with ExitStack() as stack:
            for name, (layer, attend) in self._layers.items():
                module: Any = layer()  # alive, since its denoiser is being called
                twin = self._twin_of(name, module, attend)
                stack.callback(setattr, module, "processor", module.processor)
                module.processor = twin
            # torch.compile looks up the globals of a function by the name of its module. These entries are removed
            # after the block: they would keep the guided model alive.
            sys.modules.update(self._shadows)
            for shadow in self._shadows:
                stack.callback(sys.modules.pop, shadow)
            yield

    def _twin_of(self, name: str, module: nn.Module, attend: Attend) -> Any:
        """Return this layer's twin, a new one when the host has set another processor since."""
        processor: Any = module.processor
        twinned, twin = self._twins.get(name, (None, None))
        if twinned is not processor:
            require_attention(name, module)
            twin = object.__new__(self._class_for(type(processor), attend))
            twin.__dict__ = processor.__dict__
            self._twins[name] = (processor, twin)
        return twin

    def _class_for(self, host: Any, attend: Attend) -> type:
        """Return the subclass of a processor class whose code attends with this function."""
        if (host, attend) not in self._classes:
            shadow = _shadow_module(host.__call__, attend)
            self._shadows[shadow.__name__] = shadow
            call: Callable[..., object] = _rebound(host.__call__, vars(shadow))
            if self._around is not None:
                call = _surrounded(call, partial(self._around, attend))
            namespace = {
                "__module__": host.__module__,
                "__qualname__": host.__qualname__,
                "__call__": call,
                _TWIN: True,
            }
            self._classes[host, attend] = type(host.__name__, (host,), namespace)
        return self._classes[host, attend]


def require_attention(layer: str, module: nn.Module) -> None:
    """Raise UnsupportedAttentionError for a processor whose code calls no attention function that can be replaced."""
    processor = type(module.processor)
    function = processor.__call__
    if hasattr(processor, _TWIN):  # put there by a guided call that another thread makes at this moment
        return
    if not (isinstance(function, FunctionType) and _reaches_attention(function, frozenset())):
        raise UnsupportedAttentionError(
            f"attention layer {layer} uses {processor.__name__}, which cannot be guided: its code calls neither "
            f"{_DISPATCH} nor F.{_FUSED} (F = torch.nn.functional). Set the model's default processor instead."
        )


def _surrounded(call: Callable[..., object], around: Callable[[Callable[[], object]], object]) -> Callable[..., object]:
    """Return a method that passes its call to `around`; it keeps the processor's signature, which hosts inspect."""

    @wraps(call)
    def surrounded(self: object, *args: Any, **kwargs: Any) -> object:
        return around(partial(call, self, *args, **kwargs))

    return surrounded


def _reaches_attention(function: FunctionType, seen: frozenset[str]) -> bool:
    """Tell whether the code calls a replaceable attention function, itself or through functions of its own module.

    `seen` holds the names of the functions that were looked into already.
    """
    used = {name: function.__globals__.get(name) for name in names_in(function.__code__)}
    if used.get(_DISPATCH) is not None or (_FUSED in used and torch.nn.functional in used.values()):
        return True
    for name, value in used.items():
        if name in seen or not isinstance(value, FunctionType) or value.__globals__ is not function.__globals__:
            continue
        if _reaches_attention(value, seen | {name}):
            return True
    return False


def _shadow_module(function: FunctionType, attend: Attend) -> ModuleType:
    """Return a copy of a function's module in which attention functions call `attend` first.

    The module's own functions that reach them are copied too, so that they find the replaced ones.
    """
    shadow = ModuleType(f"vsf_shadow_{next(_shadow_numbers)}_{function.__module__.rpartition('.')[2]}")
    source = function.__globals__
    identity = ("__name__", "__spec__", "__loader__")
    vars(shadow).update((name, value) for name, value in source.items() if name not in identity)
    fused = torch.nn.functional.scaled_dot_product_attention
    for name, value in source.items():
        if value is torch.nn.functional:
            setattr(shadow, name, _Functional(_hooked(fused, attend, heads_first=True)))
        elif name == _DISPATCH:
            setattr(shadow, name, _hooked(value, attend, heads_first=False))
        elif isinstance(value, FunctionType) and value.__globals__ is source and _reaches_attention(value, frozenset()):
            setattr(shadow, name, _rebound(value, vars(shadow)))
    return shadow


def _rebound(function: FunctionType, new_globals: dict[str, object]) -> FunctionType:
    """Return a function of the same code that reads its globals elsewhere, with the signature that hosts inspect."""
    rebound = FunctionType(
        function.__code__, new_globals, function.__name__, function.__defaults__, function.__closure__
    )
    rebound.__kwdefaults__ = function.__kwdefaults__
    rebound.__annotations__ = function.__annotations__
    return rebound


class _Functional:
    """`torch.nn.functional` with another attention function."""

    def __init__(self, attention: Callable[..., Tensor]) -> None:
        self.scaled_dot_product_attention = attention

    def __getattr__(self, name: str) -> Any:
        return getattr(torch.nn.functional, name)


def _autocast(tensor: Tensor) -> Tensor:
    """Cast as torch.autocast does before torch's own attention; it does not know the operations below that."""
    return tensor.to(torch.get_autocast_dtype(tensor.device.type))


def _key_mask(mask: Tensor | None, batch: int, keys: int) -> Tensor | None:
    """Give a mask of (batch, keys) the axes between: diffusers takes it for that, torch for (queries, keys)."""
    if mask is None or mask.shape != (batch, keys):
        return mask
    return mask[:, None, None]


def _hooked(stock: Callable[..., Tensor], attend: Attend, *, heads_first: bool) -> Callable[..., Tensor]:
    """Return an attention function that asks `attend` first, and else calls the host's with the very same arguments.

    Args:
        stock: the host's own function.
        attend: returns None to leave the call to the host.
        heads_first: whether tensors are (batch, heads, tokens, channels), or (batch, tokens, heads, channels).
    """

    def attention(query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        options = {**dict(zip(_OPTIONS, args, strict=False)), **kwargs} if args else kwargs
        q = query
        k = key
        v = value
        if torch.is_autocast_enabled(query.device.type):
            q = _autocast(query)
            k = _autocast(key)
            v = _autocast(value)
        if heads_first:
            out = attend(q, k, v, options)
        else:
            options = {**options, "host": backend_attention(stock, q, options)}
            if "attn_mask" in options:
                options["attn_mask"] = _key_mask(options["attn_mask"], len(key), key.shape[1])
            out = attend(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), options)
            out = None if out is None else out.transpose(1, 2)
        return stock(query, key, value, *args, **kwargs) if out is None else out

    return attention
