"""From a request to images that say how they were made."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vsf.generation.drawing import Progress, Result, draw, generate
    from vsf.generation.models import Model, load
    from vsf.generation.request import Lora, Request

__all__ = ["Lora", "Model", "Progress", "Request", "Result", "draw", "generate", "load"]

_HOMES = {"Lora": "request", "Request": "request", "Model": "models", "load": "models"}

if not TYPE_CHECKING:  # a type checker that saw this would take any name for one of ours

    def __getattr__(name: str) -> Any:
        """Import a name when it is first used: a request can be checked, and refused, before torch is there."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = getattr(import_module(f"{__name__}.{_HOMES.get(name, 'drawing')}"), name)
        return globals()[name]
