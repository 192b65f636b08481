"""Guidance methods: how the image rows of an attention call use the negative prompt. One method per file."""

from typing import Any

from vsf.guidance.auto import AutoScale, auto_scale
from vsf.guidance.base import Guidance, guided_rows, model_calls
from vsf.guidance.call import HostCall
from vsf.guidance.cfg import ClassifierFreeGuidance
from vsf.guidance.control import Control, Observation
from vsf.guidance.convert import convert_nag, convert_reference
from vsf.guidance.guided import guided_attention
from vsf.guidance.knobs import AUTO, Knob, check_names, knobs
from vsf.guidance.nag import NormalizedAttentionGuidance
from vsf.guidance.nasa import NegativeAwaySteerAttention
from vsf.guidance.negpip import NegativeInPrompt
from vsf.guidance.none import Unguided
from vsf.guidance.ong import OrthogonalNegativeGuidance
from vsf.guidance.partials import Partials
from vsf.guidance.plan import AttentionPlan
from vsf.guidance.vsf import ValueSignFlip
from vsf.registry import Registry

METHODS: Registry[type[Guidance]] = Registry(
    "method",
    {
        "none": Unguided,
        "vsf": ValueSignFlip,
        "nag": NormalizedAttentionGuidance,
        "nasa": NegativeAwaySteerAttention,
        "ong": OrthogonalNegativeGuidance,
        "negpip": NegativeInPrompt,
        "cfg": ClassifierFreeGuidance,
    },
)


def method(name: str, **knobs: Any) -> Guidance:
    """Make the method called `name`; raises UnknownNameError and, for its knobs, KnobError."""
    cls = METHODS[name]
    check_names(cls, f'method "{name}"', list(knobs))
    return cls(**knobs)


__all__ = [
    "AUTO",
    "METHODS",
    "AttentionPlan",
    "AutoScale",
    "ClassifierFreeGuidance",
    "Control",
    "Guidance",
    "HostCall",
    "Knob",
    "NegativeAwaySteerAttention",
    "NegativeInPrompt",
    "NormalizedAttentionGuidance",
    "Observation",
    "OrthogonalNegativeGuidance",
    "Partials",
    "Unguided",
    "ValueSignFlip",
    "auto_scale",
    "convert_nag",
    "convert_reference",
    "guided_attention",
    "guided_rows",
    "knobs",
    "method",
    "model_calls",
]
