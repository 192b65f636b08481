"""The arguments of a call by name, passed on in the positions in which they came."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from vsf.patching.hosts import CallArguments

Result = TypeVar("Result")

_signatures: "WeakKeyDictionary[Callable[..., object], tuple[list[str], bool]]" = WeakKeyDictionary()
_NAMED = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True, slots=True)
class Arguments:
    """The arguments of a method call, without self.

    Attributes:
        values: all arguments that have a name.
        positional: the names of those that came by position.
        unnamed: positional arguments beyond the named parameters, taken by *args.
    """

    values: dict[str, Any]
    positional: tuple[str, ...]
    unnamed: tuple[Any, ...]

    @classmethod
    def of(cls, method: Callable[..., object], args: Sequence[object], kwargs: CallArguments) -> "Arguments":
        """Give the positional arguments of a method call their names.

        Raises:
            TypeError: the method does not take these arguments.
        """
        names, takes_more = _signature(method)
        if len(args) > len(names) and not takes_more:
            raise TypeError("too many positional arguments")
        positional = dict(zip(names, args, strict=False))
        if twice := positional.keys() & kwargs.keys():
            raise TypeError(f"got multiple values for {', '.join(sorted(twice))}")
        return cls({**positional, **kwargs}, tuple(positional), tuple(args[len(names) :]))

    def call(self, function: Callable[..., Result], values: CallArguments) -> Result:
        """Call a function with other values.

        Arguments that came by position are passed by position: forward hooks of users may look for them there.
        """
        by_position = [values[name] for name in self.positional]
        by_name = {name: value for name, value in values.items() if name not in self.positional}
        return function(*by_position, *self.unnamed, **by_name)


def _signature(method: Callable[..., object]) -> tuple[list[str], bool]:
    """Return the names that a method's arguments may have by position, and whether it takes further ones."""
    # Kept for as long as the method lives: reading a signature takes longer than all else here, in every denoiser call.
    if method not in _signatures:
        # Without the first parameter: it is self, which has its value already.
        parameters = list(inspect.signature(method).parameters.values())[1:]
        names = [parameter.name for parameter in parameters if parameter.kind in _NAMED]
        takes_more = any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in parameters)
        _signatures[method] = names, takes_more
    return _signatures[method]
