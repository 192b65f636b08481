"""Guidance methods: rules for how the image rows of an attention call use the negative prompt, one file each.

A new method is a subclass of `Guidance` in a file of `methods/`, and one line in `METHODS`.
"""

from typing import Any

from vsf.attention.call import HostCall
from vsf.attention.control import Control, Observation
from vsf.guidance.apply import guided_attention
from vsf.guidance.auto import AutoScale, auto_scale
from vsf.guidance.base import Guidance
from vsf.guidance.convert import convert_nag, convert_reference
from vsf.guidance.methods.centred import CentredValueSignFlip
from vsf.guidance.methods.cfg import ClassifierFreeGuidance
from vsf.guidance.methods.nag import NormalizedAttentionGuidance
from vsf.guidance.methods.nasa import NegativeAwaySteerAttention
from vsf.guidance.methods.negpip import NegativeInPrompt
from vsf.guidance.methods.none import Unguided
from vsf.guidance.methods.ong import OrthogonalNegativeGuidance
from vsf.guidance.methods.vsf import ValueSignFlip
from vsf.guidance.partials import Partials
from vsf.guidance.plan import AttentionPlan
from vsf.knobs import AUTO, Knob, check_names, knobs
from vsf.registry import Registry

METHODS: Registry[type[Guidance]] = Registry(
    "method",
    {
        "none": Unguided,
        "vsf": ValueSignFlip,
        "vsf-centred": CentredValueSignFlip,
        "nag": NormalizedAttentionGuidance,
        "nasa": NegativeAwaySteerAttention,
        "ong": OrthogonalNegativeGuidance,
        "negpip": NegativeInPrompt,
        "cfg": ClassifierFreeGuidance,
    },
)


def method(name: str, **knobs: Any) -> Guidance:
    """Create a guidance method by name.

    Args:
        name: one of `METHODS`, such as "vsf" or "nag".
        knobs: values of its knobs; the others have their defaults.

    Raises:
        UnknownNameError: no method has this name.
        KnobError: a knob does not exist, or has a value that is not allowed.
    """
    cls = METHODS[name]
    check_names(cls, f'method "{name}"', list(knobs))
    return cls(**knobs)


__all__ = [
    "AUTO",
    "METHODS",
    "AttentionPlan",
    "AutoScale",
    "CentredValueSignFlip",
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
    "knobs",
    "method",
]
