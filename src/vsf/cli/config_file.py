"""Config files: a TOML file with the same keys as a command's flags, over which the flags win."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path

from vsf.errors import RequestError
from vsf.registry import Registry

PATHS = ("like", "config", "out", "image", "mask", "prompts")
SIDES = {"size", "width", "height"}
FLAGS_ONLY = {"like", "config", "json"}
"""Flags that a config file cannot set."""


def with_config(flags: Mapping[str, object]) -> dict[str, object]:
    """Merge the flags that were given with the entries of the config file that they name; flags win.

    Args:
        flags: every flag of the command by name; None, or an empty list for a repeatable one, if it was left out.

    Returns:
        The value of each flag from the command line or the file. Entries of the file are of any type that TOML has.

    Raises:
        RequestError: the file cannot be read, or a path is empty.
        UnknownNameError: the file holds an entry that is not a flag of the command.
    """
    given_flags = {name: value for name, value in flags.items() if value not in (None, [], ())}
    _check_paths(given_flags)
    if "config" not in given_flags:
        return given_flags
    entries = _read(Path(str(given_flags["config"])), [name for name in flags if name not in FLAGS_ONLY])
    _check_paths(entries)
    # A size has two spellings: any of its flags replaces the file's size as a whole.
    if SIDES & given_flags.keys():
        for name in SIDES:
            entries.pop(name, None)
    return {**entries, **given_flags}


def _check_paths(values: Mapping[str, object]) -> None:
    for name in PATHS:
        # Path("") would be the current folder.
        if values.get(name) == "":
            raise RequestError(f"--{name} is empty; name a file, or leave it out.")


def _read(file: Path, allowed: Collection[str]) -> dict[str, object]:
    try:
        entries = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f'cannot read the config file "{file}": {getattr(error, "strerror", error)}.') from error
    except tomllib.TOMLDecodeError as error:
        raise RequestError(f'the config file "{file}" is not valid TOML: {error}.') from error
    # Flags are written with dashes, TOML keys often with underscores: both are read.
    config = {name.replace("-", "_"): value for name, value in entries.items()}
    known_names = Registry("config entry", dict.fromkeys(allowed))
    for name in config:
        known_names[name]  # raises for an unknown name, and suggests a known one
    return config
