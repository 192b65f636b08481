"""Options of commands and judges, declared as fields of a dataclass: help, default, limits.

The command line derives a flag of the same name from each.
"""

from dataclasses import field
from typing import Any

__all__ = ["option"]


def option(
    help: str,
    *,
    default: object = None,
    low: int | None = None,
    high: int | None = None,
    shown: str | None = None,
    **flag: Any,
) -> Any:
    """Declare an option as a field of a dataclass.

    Args:
        help: Help of the flag.
        default: Value if the flag is not given.
        low: Smallest whole number that is allowed.
        high: Largest whole number that is allowed.
        shown: Default to show in the help instead of `default`.
        flag: Further settings of the flag, such as its `metavar`.
    """
    return field(default=default, metadata={"help": help, "low": low, "high": high, "shown": shown, "flag": flag})
