"""How methods are written in every command: `none,nag++,vsf:scale=2,offset=.5,vsf:preset=strong`."""

from __future__ import annotations

import re
from typing import Any

from vsf.cli import index
from vsf.cli.index import Knob
from vsf.cli.options import number_or_auto
from vsf.errors import KnobError
from vsf.registry import Registry

NAMES: Registry[None] = Registry("method", dict.fromkeys([*index.methods(), *index.published()]))
"""Whatever may stand for a method: its own name, or that of a published setting such as nag++."""


def split(written: object) -> list[str]:
    """Divide a list of methods; a knob without a method belongs to the one before it.

    written: text with commas, or in a config file a list such as ["none", "vsf:scale=2"].
    """
    pieces = written if isinstance(written, list) else str(written).split(",")
    specs: list[str] = []
    for piece in (str(piece).strip() for piece in pieces):
        if specs and "=" in piece.partition(":")[0]:
            specs[-1] += f",{piece}"
        else:
            specs.append(piece)
    return specs


def parse(spec: str) -> dict[str, Any]:
    """Read one method with its knobs, as the fields method and knobs, and preset if there is one, of a request.

    Knobs are divided by colons or commas, and replace those of a published setting.

    Raises:
        UnknownNameError: no method and no published setting is called so.
        KnobError: a knob is not written name=value, or its value is not of its kind.
    """
    name, *settings = re.split("[:,]", spec.strip())
    NAMES[name]
    method, knobs = index.published().get(name, (name, {}))
    fields: dict[str, Any] = {"method": method, "knobs": dict(knobs)}
    known = index.methods()[method]
    for setting in settings:
        knob, equals, value = (part.strip() for part in setting.partition("="))
        if not equals:
            raise KnobError(f'a knob has to be written name=value, got "{setting}" in "{spec}".')
        if knob == "preset":
            fields["preset"] = value
        else:
            fields["knobs"][knob] = _value(known[knob], value) if knob in known else value
    return fields


def _value(knob: Knob, text: str) -> Any:
    try:
        if isinstance(knob.default, bool):
            return {"true": True, "false": False}[text.lower()]
        if knob.takes_auto:
            return number_or_auto(text)
        return text if isinstance(knob.default, str) else float(text)
    except (KeyError, ValueError) as error:
        kind = "true or false" if isinstance(knob.default, bool) else "a number"
        raise KnobError(f'{knob.name} has to be {kind}, got "{text}".') from error
