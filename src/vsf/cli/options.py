"""Flags from options dataclasses: each command declares its flags, their help and defaults as fields of one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import MISSING, field, fields
from inspect import Parameter, Signature
from typing import Any, TypeVar, cast, get_type_hints

import typer

from vsf.cli.config_file import with_config
from vsf.controls.schedule import Schedule
from vsf.generation.request import Request

DEFAULTS = {
    field.name: field.default for field in (*fields(Request), *fields(Schedule)) if field.default is not MISSING
}
"""Defaults of a request, shown in the help of its flags; such a flag is None if it is left out."""

JSON_HELP = "Print one JSON document, and no progress."

Options = TypeVar("Options")


def option(help: str, *, default: object = None, **settings: Any) -> Any:
    """Declare a flag as a field of an options dataclass; `settings` are those of `flag`."""
    return field(default=default, metadata={"flag": {"text": help, **settings}})


def argument(help: str, *, required: bool = False) -> Any:
    """Declare a positional argument as a field of an options dataclass; an optional one is None if it is left out."""
    return field(default=MISSING if required else None, metadata={"argument": help})


def takes_options(
    options: type[Options], knob_flags: Iterable[Parameter] = ()
) -> Callable[[Callable[[Options], None]], Callable[..., None]]:
    """Turn a command of an options dataclass into one of keyword arguments, which typer can call.

    If the dataclass has a field `config`, the entries of that config file are merged in.

    Args:
        options: the dataclass.
        knob_flags: further flags, whose values are gathered in the field `knobs` of the dataclass.
    """
    own_flags = _parameters(options)
    own_names = {parameter.name for parameter in own_flags}
    make: Callable[..., Options] = options

    def wrap(command: Callable[[Options], None]) -> Callable[..., None]:
        @takes([*own_flags, *knob_flags])
        def run(**flags: object) -> None:
            values: dict[str, object] = {}
            knobs: dict[str, object] = {}
            for name, value in with_config(flags).items():
                if name in own_names:
                    values[name] = value
                else:
                    knobs[name] = value
            if knobs:
                values["knobs"] = knobs
            command(make(**values))

        run.__doc__ = command.__doc__
        return run

    return wrap


def takes(parameters: Iterable[Parameter]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a function of keyword arguments the signature from which typer builds its flags."""

    def with_signature(function: Callable[..., None]) -> Callable[..., None]:
        cast(Any, function).__signature__ = Signature(list(parameters))
        return function

    return with_signature


def flag(
    name: str,
    kind: Any,
    text: str,
    *,
    default: object = None,
    spelled: str | None = None,
    also: tuple[str, ...] = (),
    **settings: Any,
) -> Parameter:
    """Build an optional flag, which is None if it is left out, so that a config file or a default applies.

    Args:
        name: name of the keyword argument, and of the flag.
        kind: type of the value.
        text: the help.
        default: shown in the help unless it is None, False or ""; if None, that of a request applies.
        spelled: how the flag is written, if not after its name.
        also: further spellings.
        settings: passed on to `typer.Option`.
    """
    default = DEFAULTS.get(name) if default is None else default
    has_default = default is not None and default is not False and default != ""
    help_text = f"{text} (default {default})" if has_default else text
    spelling = spelled or "--" + name.replace("_", "-")
    return _parameter(name, kind | None, typer.Option(None, spelling, *also, help=help_text, **settings))


def _parameters(options: type) -> list[Parameter]:
    """Build typer's parameters from the fields of an options dataclass."""
    kinds = get_type_hints(options)
    parameters = []
    for declared in fields(options):
        name = declared.name
        if "flag" in declared.metadata:
            parameters.append(flag(name, kinds[name], default=declared.default, **declared.metadata["flag"]))
        elif "argument" in declared.metadata:
            # typer's sign of a required argument.
            default = ... if declared.default is MISSING else declared.default
            parameters.append(
                _parameter(name, kinds[name], typer.Argument(default, help=declared.metadata["argument"]))
            )
    return parameters


def _parameter(name: str, kind: object, default: object) -> Parameter:
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=kind)


JSON = flag("json", bool, JSON_HELP, spelled="--json")
