"""The only file that changes someone else's object, and the one that puts it back.

`swap_class` gives one object a one-off subclass with some methods overridden. `Twins` lets attention layers run their
own processors' code with another attention function: the processor's `__call__` is used as it stands, only the names
under which that code finds its attention function are bound anew. No code of the host is repeated here.
"""

import copyreg
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from types import CodeType, FunctionType, ModuleType
from typing import Any

import torch.nn.functional
from torch import Tensor

from vsf.errors import UnsupportedAttentionError

Override = Callable[..., Any]
"""Called as override(original, self, *args, **kwargs), where `original` is the plain function it stands for."""

Attend = Callable[[Tensor, Tensor, Tensor, Mapping[str, Any]], Tensor | None]
"""attend(query, key, value, options) on (batch, heads, tokens, channels); None leaves the call to the host."""

_DISPATCH = "dispatch_attention_fn"
_FUSED = "scaled_dot_product_attention"
_OPTIONS = ("attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")  # both functions take them in this order
_OWNER = "_vsf_owner"
_shadow_numbers = itertools.count(1)


# One-off subclasses -----------------------------------------------------------------------------------------------


def swap_class(target: object, overrides: Mapping[str, Override], owner: object = None) -> Callable[[], None]:
    """Give `target` a subclass of its own class with `overrides`; returns the undo.

    Name and module stay, so that what is saved meanwhile names the host's class. A copy or pickle of `target` has the
    host's class again.
    """
    host = type(target)
    namespace: dict[str, Any] = {name: _bind(getattr(host, name), override) for name, override in overrides.items()}
    namespace |= {"__module__": host.__module__, "__qualname__": host.__qualname__, "__reduce_ex__": _reduce_as(host)}
    namespace[_OWNER] = owner
    object.__setattr__(target, "__class__", type(host.__name__, (host,), namespace))
    return partial(object.__setattr__, target, "__class__", host)


@contextmanager
def calls_swapped(overrides: Iterable[tuple[object, Override]]) -> Iterator[None]:
    """Override what calling each of these objects does while a block runs."""
    with ExitStack() as stack:
        for target, override in overrides:
            stack.callback(swap_class(target, {"__call__": override}))
        yield


def owner_of(target: object) -> Any:
    """Return the owner that `swap_class` was given for this object, None where it was not swapped."""
    return getattr(type(target), _OWNER, None)


def _bind(original: Callable[..., Any], override: Override) -> Callable[..., Any]:
    """Make the method: a plain function handed on, because super() would recurse when an object is swapped twice."""

    @wraps(original)
    def method(self: object, *args: Any, **kwargs: Any) -> Any:
        return override(original, self, *args, **kwargs)

    return method


def _reduce_as(host: Any) -> Callable[..., Any]:
    """Make a `__reduce_ex__` that rebuilds an instance of `host` instead of the one-off subclass."""

    def reduce(self: object, protocol: Any) -> Any:
        constructor, arguments, *state = host.__reduce_ex__(self, protocol)
        if constructor is copyreg.__newobj__:  # type: ignore[attr-defined]
            constructor = host.__new__  # pickle insists that __newobj__ is given the object's own class
        back = [host if part is type(self) else part for part in (constructor, *arguments)]
        return (back[0], tuple(back[1:]), *state)

    return reduce


# Processor twins --------------------------------------------------------------------------------------------------


class Twins:
    """Stand-ins for the processors of some attention layers, in place only while a block runs.

    Between blocks the layers hold their own processors, so whatever the host does with them (fusing, replacing,
    copying, saving) never meets a twin. A twin shares its processor's attributes: what is set on one shows on both.
    """

    def __init__(self, layers: Mapping[str, tuple[Any, Attend]]) -> None:
        """Check the layers, name -> (module, attention to use).

        Raises UnsupportedAttentionError for a processor whose code calls no attention function that can be replaced.
        """
        self._layers = layers
        self._twins: dict[str, tuple[Any, Any]] = {}
        self._classes: dict[tuple[type, Attend], type] = {}
        self._shadows: dict[str, ModuleType] = {}
        for name, (module, _) in layers.items():
            _require_attention(name, type(module.processor))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the twins where the processors stand, and the very same processors back."""
        with ExitStack() as stack:
            for name, (module, attend) in self._layers.items():
                twin = self._twin_of(name, module.processor, attend)
                stack.callback(setattr, module, "processor", module.processor)
                module.processor = twin
            # torch.compile looks up the globals of a function by module name. Only meanwhile: an entry that stayed
            # would keep the guided model alive.
            sys.modules.update(self._shadows)
            for shadow in self._shadows:
                stack.callback(sys.modules.pop, shadow)
            yield

    def _twin_of(self, name: str, processor: Any, attend: Attend) -> Any:
        """Return this layer's twin, a new one when the host has set another processor since."""
        known, twin = self._twins.get(name, (None, None))
        if known is not processor:
            _require_attention(name, type(processor))
            twin = object.__new__(self._class_for(type(processor), attend))
            twin.__dict__ = processor.__dict__
            self._twins[name] = (processor, twin)
        return twin

    def _class_for(self, host: Any, attend: Attend) -> type:
        if (host, attend) not in self._classes:
            shadow = _shadow_module(host.__call__, attend)
            self._shadows[shadow.__name__] = shadow
            call = _rebound(host.__call__, vars(shadow))
            namespace = {"__call__": call, "__module__": host.__module__, "__qualname__": host.__qualname__}
            self._classes[host, attend] = type(host.__name__, (host,), namespace)
        return self._classes[host, attend]


def _require_attention(layer: str, processor: Any) -> None:
    function = processor.__call__
    if not (isinstance(function, FunctionType) and _reaches_attention(function, frozenset())):
        raise UnsupportedAttentionError(
            f"attention layer {layer} uses {processor.__name__}, which cannot be guided: its code calls neither "
            f"{_DISPATCH} nor F.{_FUSED} (F = torch.nn.functional). Set the model's default processor instead."
        )


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
    device = tensor.device.type
    return tensor.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else tensor


def _hooked(stock: Callable[..., Tensor], attend: Attend, *, heads_first: bool) -> Callable[..., Tensor]:
    """Ask `attend` first. What goes on to the host's function is passed exactly as it came, whatever its version."""

    def attention(query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        options = {**dict(zip(_OPTIONS, args, strict=False)), **kwargs}
        q, k, v = (_autocast(tensor) for tensor in (query, key, value))
        if heads_first:
            out = attend(q, k, v, options)
        else:
            out = attend(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), options)
            out = None if out is None else out.transpose(1, 2)
        return stock(query, key, value, *args, **kwargs) if out is None else out

    return attention
