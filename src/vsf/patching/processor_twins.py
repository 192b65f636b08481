"""Processor twins: attention layers run their own processors' code with another attention function.

A processor's `__call__` is used as it stands; only the names under which that code finds its attention function are
bound anew. No code of the host is repeated here.
"""

import itertools
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from types import CodeType, FunctionType, ModuleType
from typing import Any

import torch.nn.functional
from torch import Tensor

from vsf.errors import UnsupportedAttentionError
from vsf.patching.backends import backend_attention

Attend = Callable[[Tensor, Tensor, Tensor, Mapping[str, Any]], Tensor | None]
"""attend(query, key, value, options) on (batch, heads, tokens, channels); None leaves the call to the host."""

Around = Callable[[Any, Callable[[], Any]], Any]
"""around(attend, call) makes a processor's whole call, and returns what it returns."""

_DISPATCH = "dispatch_attention_fn"
_TWIN = "_vsf_twin"
_FUSED = "scaled_dot_product_attention"
_OPTIONS = ("attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")  # both functions take them in this order
_shadow_numbers = itertools.count(1)


class ProcessorTwins:
    """Stand-ins for the processors of some attention layers, in place only while a block runs.

    Between blocks the layers hold their own processors, so whatever the host does with them (fusing, replacing,
    copying, saving) never meets a twin. A twin shares its processor's attributes: what is set on one shows on both.
    The layers themselves are not kept alive.
    """

    def __init__(self, layers: Mapping[str, tuple[Any, Attend]], around: Around | None = None) -> None:
        """Check the layers, name -> (module, attention to use).

        Raises UnsupportedAttentionError for a processor whose code calls no attention function that can be replaced.
        """
        self._layers = {name: (weakref.ref(module), attend) for name, (module, attend) in layers.items()}
        self._around = around
        self._twins: dict[str, tuple[Any, Any]] = {}
        self._classes: dict[tuple[type, Attend], type] = {}
        self._shadows: dict[str, ModuleType] = {}
        for name, (module, _) in layers.items():
            require_attention(name, module)

    def layers(self) -> Iterator[tuple[Any, Any]]:
        """Yield each layer's module, None if it is gone, and its attention."""
        for module, attend in self._layers.values():
            yield module(), attend

    def forget(self) -> None:
        """Let go of the processors; what is made for their classes stays."""
        self._twins.clear()

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the twins where the processors stand, and the very same processors back."""
        with ExitStack() as stack:
            for name, (layer, attend) in self._layers.items():
                module: Any = layer()
                twin = self._twin_of(name, module, attend)
                stack.callback(setattr, module, "processor", module.processor)
                module.processor = twin
            # torch.compile looks up the globals of a function by module name. Only meanwhile: an entry that stayed
            # would keep the guided model alive.
            sys.modules.update(self._shadows)
            for shadow in self._shadows:
                stack.callback(sys.modules.pop, shadow)
            yield

    def _twin_of(self, name: str, module: Any, attend: Attend) -> Any:
        """Return this layer's twin, a new one when the host has set another processor since."""
        processor = module.processor
        known, twin = self._twins.get(name, (None, None))
        if known is not processor:
            require_attention(name, module)
            twin = object.__new__(self._class_for(type(processor), attend))
            twin.__dict__ = processor.__dict__
            self._twins[name] = (processor, twin)
        return twin

    def _class_for(self, host: Any, attend: Attend) -> type:
        if (host, attend) not in self._classes:
            shadow = _shadow_module(host.__call__, attend)
            self._shadows[shadow.__name__] = shadow
            call: Callable[..., Any] = _rebound(host.__call__, vars(shadow))
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


def require_attention(layer: str, module: Any) -> None:
    """Raise UnsupportedAttentionError for a processor whose code calls no attention function that can be replaced."""
    processor = type(module.processor)
    function = processor.__call__
    if hasattr(processor, _TWIN):  # of a guided call that another thread makes right now
        return
    if not (isinstance(function, FunctionType) and _reaches_attention(function, frozenset())):
        raise UnsupportedAttentionError(
            f"attention layer {layer} uses {processor.__name__}, which cannot be guided: its code calls neither "
            f"{_DISPATCH} nor F.{_FUSED} (F = torch.nn.functional). Set the model's default processor instead."
        )


def _surrounded(call: Callable[..., Any], around: Callable[[Callable[[], Any]], Any]) -> Callable[..., Any]:
    """Make the method; hosts inspect its signature, which stays the processor's."""

    @wraps(call)
    def surrounded(self: object, *args: Any, **kwargs: Any) -> Any:
        return around(partial(call, self, *args, **kwargs))

    return surrounded


def _reaches_attention(function: FunctionType, seen: frozenset[str]) -> bool:
    """Whether the code calls a replaceable attention function, itself or through functions of its own module."""
    used = {name: function.__globals__.get(name) for name in _names(function.__code__)}
    if used.get(_DISPATCH) is not None or (_FUSED in used and torch.nn.functional in used.values()):
        return True
    return any(
        _reaches_attention(value, seen | {name})
        for name, value in used.items()
        if isinstance(value, FunctionType) and value.__globals__ is function.__globals__ and name not in seen
    )


def _names(code: CodeType) -> set[str]:
    """Return the global and attribute names in a piece of code, comprehensions and inner functions included."""
    inner = (_names(constant) for constant in code.co_consts if isinstance(constant, CodeType))
    return set(code.co_names).union(*inner)


def _shadow_module(function: FunctionType, attend: Attend) -> ModuleType:
    """Copy the globals of a function's module, with its attention functions replaced."""
    shadow = ModuleType(f"vsf_shadow_{next(_shadow_numbers)}_{function.__module__.rpartition('.')[2]}")
    source = function.__globals__
    vars(shadow).update((k, v) for k, v in source.items() if k not in ("__name__", "__spec__", "__loader__"))
    fused = torch.nn.functional.scaled_dot_product_attention
    for name, value in source.items():
        if value is torch.nn.functional:
            setattr(shadow, name, _Functional(_hooked(fused, attend, heads_first=True)))
        elif name == _DISPATCH:
            setattr(shadow, name, _hooked(value, attend, heads_first=False))
        elif isinstance(value, FunctionType) and value.__globals__ is source and _reaches_attention(value, frozenset()):
            setattr(shadow, name, _rebound(value, vars(shadow)))
    return shadow


def _rebound(function: FunctionType, new_globals: dict[str, Any]) -> FunctionType:
    """Return the same code reading its globals elsewhere; hosts inspect the signature, so defaults come along."""
    code, closure = function.__code__, function.__closure__
    rebound = FunctionType(code, new_globals, function.__name__, function.__defaults__, closure)
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
    """Cast as torch.autocast does before torch's own attention; ours runs kernels that it does not know."""
    return tensor.to(torch.get_autocast_dtype(tensor.device.type))


def _hooked(stock: Callable[..., Tensor], attend: Attend, *, heads_first: bool) -> Callable[..., Tensor]:
    """Ask `attend` first. What goes on to the host's function is passed exactly as it came, whatever its version."""

    def attention(query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        options = {**dict(zip(_OPTIONS, args, strict=False)), **kwargs} if args else kwargs
        q, k, v = query, key, value
        if torch.is_autocast_enabled(query.device.type):
            q, k, v = _autocast(query), _autocast(key), _autocast(value)
        if heads_first:
            out = attend(q, k, v, options)
        else:
            options = {**options, "host": backend_attention(stock, q, options)}
            out = attend(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), options)
            out = None if out is None else out.transpose(1, 2)
        return stock(query, key, value, *args, **kwargs) if out is None else out

    return attention
