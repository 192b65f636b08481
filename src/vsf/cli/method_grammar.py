"""The grammar of methods in every command: `none,nag++,vsf:scale=2,offset=.5,vsf:preset=strong`."""

from __future__ import annotations

import re
from typing import Any

from vsf.cli import index
from vsf.cli.knob_flags import number_or_auto
from vsf.errors import KnobError
from vsf.knobs import Knob
from vsf.registry import Registry

NAMES: Registry[None] = Registry("method", dict.fromkeys([*index.methods(), *index.published()]))
"""Every name of a method: its own, or that of a published setting such as nag++."""


def split(written: object) -> list[str]:
    """Split a list of methods into one spec each; knobs between commas belong to the method before them.

    Args:
        written: text with commas, or from a config file a list such as ["none", "vsf:scale=2"].
    """
    pieces = written if isinstance(written, list) else str(written).split(",")
    specs: list[str] = []
    for piece in pieces:
        text = str(piece).strip()
        # The "=" of "vsf:scale=2" stands behind a colon, that of the knob "offset=.5" does not.
        is_knob = "=" in text.partition(":")[0]
        if specs and is_knob:
            specs[-1] += f",{text}"
        else:
            specs.append(text)
    return specs


def parse(spec: str) -> dict[str, Any]:
    """Parse one method with its knobs into arguments of a request: method, knobs and, if it has one, preset.

    Knobs are separated by colons or commas, and replace those of a published setting.

    Raises:
        UnknownNameError: there is no method and no published setting of that name.
        KnobError: a knob is not written name=value, or its value is of the wrong type.
    """
    name, *settings = re.split("[:,]", spec.strip())
    NAMES[name]  # raises for an unknown name
    method, knobs = index.published().get(name, (name, {}))
    arguments: dict[str, Any] = {"method": method, "knobs": dict(knobs)}
    known_knobs = index.methods()[method]
    for setting in settings:
        knob, equals, value = map(str.strip, setting.partition("="))
        if not equals:
            raise KnobError(f'a knob has to be written name=value, got "{setting}" in "{spec}".')
        if knob == "preset":
            arguments["preset"] = value
        else:  # an unknown knob is left to `Request`, which names the known ones
            arguments["knobs"][knob] = _parse_value(known_knobs[knob], value) if knob in known_knobs else value
    return arguments


def _parse_value(knob: Knob, text: str) -> float | str | bool:
    try:
        if isinstance(knob.default, bool):
            return {"true": True, "false": False}[text.lower()]
        if knob.takes_auto:
            return number_or_auto(text)
        return text if isinstance(knob.default, str) else float(text)
    except (KeyError, ValueError) as error:
        expected = "true or false" if isinstance(knob.default, bool) else "a number"
        raise KnobError(f'{knob.name} has to be {expected}, got "{text}".') from error
