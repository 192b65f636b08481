"""Overrides methods of one live object by giving it a one-off subclass, and gives it its own class back."""

import copyreg
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from typing import Any, SupportsIndex

Original = Callable[..., Any]
"""A plain function of a host, that is a method which is not bound: called as original(self, *args, **kwargs)."""

Override = Callable[..., Any]
"""override(original, self, *args, **kwargs), where `original` is the method that it overrides."""

ENCODING = threading.RLock()
"""Held while a guided pipeline encodes prompts.

Pipelines share encoders, and how a tokenizer pads is a state of it, so that two threads that tokenize at once may get
each other's padding.
"""

_SWAPPING = threading.RLock()
_OWNER = "_vsf_owner"
_SWAP = "_vsf_swap"


class Swap:
    """Overrides of some methods, which can be put onto an object and taken off again, any number of times in any order.

    Each subclass is made once and used again, because compiled code has guards on an object's class. It keeps name and
    module of the host's class, so that files saved meanwhile name that. A copy or pickle of the object has the
    host's class again.
    """

    def __init__(self, overrides: Mapping[str, Override], owner: object = None) -> None:
        """Take the overrides by method name, and the object that `owner_of` returns while they are on."""
        self._overrides = dict(overrides)
        self._owner = owner
        self._classes: dict[type, type] = {}

    def put_on(self, target: object) -> None:
        """Give `target` a subclass of its own class with the overrides."""
        with _SWAPPING:
            object.__setattr__(target, "__class__", self._on_top_of(type(target)))

    def take_off(self, target: object) -> None:
        """Give `target` the class it would have without these overrides; those put on later stay."""
        with _SWAPPING:
            # Overrides put on later lie above: they are taken off with these and put back without.
            above: list[Swap] = []
            cls = type(target)
            while (swap := vars(cls).get(_SWAP)) not in (None, self):
                above.append(swap)
                cls = cls.__bases__[0]
            if swap is None:
                return
            cls = cls.__bases__[0]
            for swap in reversed(above):
                cls = swap._on_top_of(cls)
            object.__setattr__(target, "__class__", cls)

    def _on_top_of(self, host: type) -> type:
        if host not in self._classes:
            namespace: dict[str, Any] = {"__module__": host.__module__, "__qualname__": host.__qualname__}
            for name, override in self._overrides.items():
                namespace[name] = _bind(getattr(host, name), override)
            namespace["__reduce_ex__"] = _reduce_as(host)
            namespace[_SWAP] = self
            if self._owner is not None:
                namespace[_OWNER] = self._owner
            self._classes[host] = type(host.__name__, (host,), namespace)
        return self._classes[host]


def swap_class(target: object, overrides: Mapping[str, Override], owner: object = None) -> Callable[[], None]:
    """Put overrides onto an object; return the function that takes them off."""
    swap = Swap(overrides, owner)
    swap.put_on(target)
    return partial(swap.take_off, target)


@contextmanager
def calls_swapped(overrides: Iterable[tuple[object, Override]]) -> Iterator[None]:
    """Override the calls of some objects, parts of a pipeline's encoders, in this thread while a block runs.

    Another thread that calls one of them meanwhile waits until the block ends, and then makes the original call.
    """
    with ENCODING, ExitStack() as stack:
        for target, override in overrides:
            stack.callback(swap_class(target, {"__call__": _in_this_thread(override)}))
        yield


def owner_of(target: object) -> Any:
    """Return the owner of the overrides that an object has at the moment, None where it has none."""
    return getattr(type(target), _OWNER, None)


def _in_this_thread(override: Override) -> Override:
    """Restrict an override to the thread that calls this; other threads wait and make the original call."""
    thread = threading.get_ident()

    def call(original: Original, target: object, *args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() == thread:
            return override(original, target, *args, **kwargs)
        with ENCODING:
            return original(target, *args, **kwargs)

    return call


def _bind(original: Original, override: Override) -> Callable[..., Any]:
    """Make the overriding method.

    It passes the plain function on: super() would recurse where the same overrides lie on an object twice.
    """

    @wraps(original)
    def method(self: object, *args: Any, **kwargs: Any) -> Any:
        return override(original, self, *args, **kwargs)

    return method


def _reduce_as(host: Any) -> Callable[..., Any]:
    """Make a `__reduce_ex__` that rebuilds an instance of `host` instead of the one-off subclass."""

    def reduce(self: object, protocol: SupportsIndex) -> Any:
        constructor, arguments, *state = host.__reduce_ex__(self, protocol)
        if constructor is copyreg.__newobj__:  # type: ignore[attr-defined]
            constructor = host.__new__  # pickle insists that __newobj__ is given the object's own class
        # The class may be the constructor itself, or one of its arguments.
        if constructor is type(self):
            constructor = host
        rebuilt = tuple(host if argument is type(self) else argument for argument in arguments)
        return (constructor, rebuilt, *state)

    return reduce
