"""Negative prompts that work in few-step image and video models."""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from vsf._version import __version__

if TYPE_CHECKING:
    from vsf.controls.schedule import Schedule
    from vsf.errors import (
        AlreadyGuidedError,
        KnobError,
        LayoutError,
        MissingExtraError,
        NotGuidedError,
        PromptError,
        RequestError,
        UnknownNameError,
        UnsupportedAttentionError,
        UnsupportedPipelineError,
        VsfError,
    )
    from vsf.generation import Request, generate
    from vsf.guidance import (
        CentredValueSignFlip,
        ClassifierFreeGuidance,
        Guidance,
        NegativeAwaySteerAttention,
        NegativeInPrompt,
        NormalizedAttentionGuidance,
        OrthogonalNegativeGuidance,
        Unguided,
        ValueSignFlip,
        method,
    )
    from vsf.patch import attach, detach, encode, guide, unread
    from vsf.text.embeddings import Negative, Share
    from vsf.text.prompt import Prompt


__all__ = [
    "AlreadyGuidedError",
    "CentredValueSignFlip",
    "ClassifierFreeGuidance",
    "Guidance",
    "KnobError",
    "LayoutError",
    "MissingExtraError",
    "Negative",
    "NegativeAwaySteerAttention",
    "NegativeInPrompt",
    "NormalizedAttentionGuidance",
    "NotGuidedError",
    "OrthogonalNegativeGuidance",
    "Prompt",
    "PromptError",
    "Request",
    "RequestError",
    "Schedule",
    "Share",
    "Unguided",
    "UnknownNameError",
    "UnsupportedAttentionError",
    "UnsupportedPipelineError",
    "ValueSignFlip",
    "VsfError",
    "__version__",
    "attach",
    "detach",
    "encode",
    "generate",
    "guide",
    "method",
    "unread",
]

_HOMES = ("errors", "text.prompt", "controls.schedule", "text.embeddings", "guidance", "patch", "generation")
"""Modules with public names, the quickest to import first: a name is looked for in this order."""

if not TYPE_CHECKING:  # a type checker that saw these would take any name for a public one

    def __getattr__(name: str) -> Any:
        """Import a public name or a module when it is first used (PEP 562): `import vsf` alone loads not even torch."""
        if name not in __all__:
            if name.startswith("_") or find_spec(f"{__name__}.{name}") is None:
                raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
            return import_module(f"{__name__}.{name}")
        for home in _HOMES:
            module = import_module(f"{__name__}.{home}")
            if hasattr(module, name):
                break
        globals()[name] = getattr(module, name)
        return globals()[name]

    def __dir__() -> list[str]:
        return [*__all__]
