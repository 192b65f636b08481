"""Flags from options dataclasses: each command declares its flags, their help and defaults as fields of one.

A field is declared with `vsf.options.option`, or with `argument`; a field that is neither is no flag.
"""

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


def argument(help: str, *, required: bool = False) -> Any:
    """Declare a positional argument as a field of an options dataclass; an optional one is None if it is left out."""
    return field(default=MISSING if required else None, metadata={"argument": help})


def takes_options(
    options: type[Options], further: Iterable[Parameter] = (), into: str = "knobs"
) -> Callable[[Callable[[Options], None]], Callable[..., None]]:
    """Turn a command of an options dataclass into one of keyword arguments, which typer can call.

    If the dataclass has a field `config`, the entries of that config file are merged in.

    Args:
        options: the dataclass.
        further: flags that are not among its fields.
        into: the field of the dataclass that gets their values by name.
    """
    own_flags = flags_of(options)
    own_names = {parameter.name for parameter in own_flags}
    make: Callable[..., Options] = options

    def wrap(command: Callable[[Options], None]) -> Callable[..., None]:
        @takes([*own_flags, *further])
        def run(**flags: object) -> None:
            values: dict[str, object] = {}
            further_values: dict[str, object] = {}
            for name, value in with_config(flags).items():
                if name in own_names:
                    values[name] = value
                else:
                    further_values[name] = value
            if further_values:
                values[into] = further_values
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
    return _parameter(
        name, kind | None, typer.Option(None, spelled or _spelling(name), *also, help=help_text, **settings)
    )


def flags_of(options: type, **settings: Any) -> list[Parameter]:
    """Make the flags and arguments of an options dataclass; one that is left out is None.

    Args:
        options: the dataclass.
        settings: further settings of typer for all flags.
    """
    # The fields themselves hold their annotations as strings.
    kinds = get_type_hints(options)
    parameters = []
    for declared in fields(options):
        name = declared.name
        if "argument" in declared.metadata:
            # typer's sign of a required argument.
            default = ... if declared.default is MISSING else declared.default
            parameters.append(
                _parameter(name, kinds[name], typer.Argument(default, help=declared.metadata["argument"]))
            )
        elif "flag" in declared.metadata:
            own_settings = {**settings, **declared.metadata["flag"]}
            if kinds[name] is bool:
                own_settings["spelled"] = _spelling(name)  # typer would add a --no- form
            shown_default = declared.metadata["shown"] or declared.default
            parameters.append(flag(name, kinds[name], declared.metadata["help"], default=shown_default, **own_settings))
    return parameters


def _spelling(name: str) -> str:
    return "--" + name.replace("_", "-")


def _parameter(name: str, kind: object, default: object) -> Parameter:
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=kind)
