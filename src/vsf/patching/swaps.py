"""One-off subclasses: methods of one live object overridden, and the object given back as it was."""

import copyreg
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from typing import Any

Override = Callable[..., Any]
"""Called as override(original, self, *args, **kwargs), where `original` is the plain function it stands for."""

ENCODING = threading.RLock()
"""Held while a guided pipeline reads prompts: pipelines share encoders, and how a tokenizer pads is a state of it, so
that two threads that tokenize at once may get each other's padding."""

_SWAPPING = threading.RLock()
_OWNER = "_vsf_owner"
_SWAP = "_vsf_swap"


class Swap:
    """Overrides of some methods, put onto an object and taken off again, as often as wanted and in any order.

    Each class is made once and used again, because compiled code knows an object by its class. Name and module stay, so
    that what is saved meanwhile names the host's class. A copy or pickle of the object has the host's class again.
    """

    def __init__(self, overrides: Mapping[str, Override], owner: object = None) -> None:
        self._overrides, self._owner = dict(overrides), owner
        self._classes: dict[type, type] = {}

    def put_on(self, target: object) -> None:
        """Give `target` a subclass of its own class with the overrides."""
        with _SWAPPING:
            object.__setattr__(target, "__class__", self._on_top_of(type(target)))

    def take_off(self, target: object) -> None:
        """Give `target` the class it would have without these overrides; those put on later stay."""
        with _SWAPPING:
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

    def _on_top_of(self, host: Any) -> type:
        if host not in self._classes:
            methods = {name: _bind(getattr(host, name), override) for name, override in self._overrides.items()}
            namespace: dict[str, Any] = {"__module__": host.__module__, "__qualname__": host.__qualname__, **methods}
            namespace |= {"__reduce_ex__": _reduce_as(host), _SWAP: self}
            if self._owner is not None:
                namespace[_OWNER] = self._owner
            self._classes[host] = type(host.__name__, (host,), namespace)
        return self._classes[host]


def swap_class(target: object, overrides: Mapping[str, Override], owner: object = None) -> Callable[[], None]:
    """Give `target` a subclass of its own class with `overrides`; returns the undo."""
    swap = Swap(overrides, owner)
    swap.put_on(target)
    return partial(swap.take_off, target)


@contextmanager
def calls_swapped(overrides: Iterable[tuple[object, Override]]) -> Iterator[None]:
    """Override what calling each of these parts of a pipeline's encoders does in this thread while a block runs.

    Another thread that calls one of them meanwhile waits until the block ends, and gets what it asked for.
    """
    with ENCODING, ExitStack() as stack:
        for target, override in overrides:
            stack.callback(swap_class(target, {"__call__": _in_this_thread(override)}))
        yield


def owner_of(target: object) -> Any:
    """Return the owner of the overrides an object has at the moment, None where it has none."""
    return getattr(type(target), _OWNER, None)


def _in_this_thread(override: Override) -> Override:
    """Let the override act in the thread that asks for it; the others wait for their turn with the original."""
    thread = threading.get_ident()

    def call(original: Callable[..., Any], target: object, *args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() == thread:
            return override(original, target, *args, **kwargs)
        with ENCODING:
            return original(target, *args, **kwargs)

    return call


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
