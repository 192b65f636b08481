"""The arguments of a call by their names, handed on in the places they came in."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_NAMED = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True, slots=True)
class Arguments:
    """The arguments of a method, without self.

    values: all that have a name. positional: the names of those that came without it. others: those that have none.
    """

    values: dict[str, Any]
    positional: tuple[str, ...]
    others: tuple[Any, ...]

    @classmethod
    def of(cls, method: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> "Arguments":
        """Give the positional arguments their names. Raises TypeError as the call would."""
        parameters = list(inspect.signature(method).parameters.values())[1:]
        names = [parameter.name for parameter in parameters if parameter.kind in _NAMED]
        takes_others = any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in parameters)
        if len(args) > len(names) and not takes_others:
            raise TypeError("too many positional arguments")
        positional = dict(zip(names, args, strict=False))
        if twice := positional.keys() & kwargs.keys():
            raise TypeError(f"got multiple values for {', '.join(sorted(twice))}")
        return cls({**positional, **kwargs}, tuple(positional), tuple(args[len(names) :]))

    def call(self, function: Callable[..., Any], values: Mapping[str, Any]) -> Any:
        """Call with other values. What came by its place stays there, for hooks may count on it."""
        placed = [values[name] for name in self.positional]
        named = {name: value for name, value in values.items() if name not in self.positional}
        return function(*placed, *self.others, **named)
