"""Negative prompts that work in few-step image and video models."""

from vsf.encode import Negative, Share
from vsf.errors import (
    AlreadyGuidedError,
    KnobError,
    LayoutError,
    NotGuidedError,
    PromptError,
    RequestError,
    UnknownNameError,
    UnsupportedAttentionError,
    UnsupportedPipelineError,
    VsfError,
)
from vsf.generate import Request, generate
from vsf.guidance import (
    Guidance,
    NegativeAwaySteerAttention,
    NormalizedAttentionGuidance,
    OrthogonalNegativeGuidance,
    Unguided,
    ValueSignFlip,
    method,
)
from vsf.patch import attach, detach, encode, guide
from vsf.prompt import Prompt
from vsf.schedule import Schedule

__version__ = "0.1.0"

__all__ = [
    "AlreadyGuidedError",
    "Guidance",
    "KnobError",
    "LayoutError",
    "Negative",
    "NegativeAwaySteerAttention",
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
]
