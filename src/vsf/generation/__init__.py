"""Turn a request into pictures that record how they were made."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vsf.generation.drawing import Progress, Result, draw, generate
    from vsf.generation.models import Model, load
    from vsf.generation.request import Lora, Request

__all__ = ["Lora", "Model", "Progress", "Request", "Result", "draw", "generate", "load"]

# The names that do not come from vsf.generation.drawing.
_MODULES = {"Lora": "request", "Request": "request", "Model": "models", "load": "models"}

# A type checker that saw __getattr__ would accept any name as one of this package.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import a name on first use (PEP 562), so that a request can be checked and refused without loading torch."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = import_module(f"{__name__}.{_MODULES.get(name, 'drawing')}")
        globals()[name] = getattr(module, name)
        return globals()[name]
