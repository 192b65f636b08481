"""Presets: settings to start from, by family and method, and the source of each."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, get_args

from vsf.errors import UnknownNameError
from vsf.families import FAMILIES
from vsf.families.base.family import Family
from vsf.guidance import NormalizedAttentionGuidance, convert_reference
from vsf.registry import Registry

Provenance = Literal["paper", "converted", "tuned on tiny", "untested"]
"""paper: published for the formula used here. converted: published for another token layout, and converted to ours;
never run here on a checkpoint of full size. tuned on tiny: best of a grid on the embedded model. untested: a guess."""

NAMES: Registry[str] = Registry(
    "preset", {"quality": "keeps the picture as good as it is", "strong": "removes more, at some cost to the picture"}
)


@dataclass(frozen=True, slots=True)
class Preset:
    """Knobs of a method under a name; `source` says in a few words where they were published or found."""

    name: str
    method: str
    knobs: Mapping[str, Any]
    provenance: Provenance
    source: str

    def __post_init__(self) -> None:
        NAMES[self.name]  # raises UnknownNameError
        assert self.provenance in get_args(Provenance)
        object.__setattr__(self, "knobs", MappingProxyType(dict(self.knobs)))


def _reference(name: str, scale: float, offset: float, source: str) -> Preset:
    """Convert a setting of the authors' code, which has another token layout, to the paper layout."""
    alpha, beta = convert_reference(scale, offset)
    knobs = {"scale": round(alpha, 3), "offset": round(beta, 3)}
    return Preset(name, "vsf", knobs, "converted", f"{source} ({scale:g}, {offset:g})")


_SD3_CODE = "the VSF authors' SD3.5 code; which of theirs their paper calls so is not known:"
_FLUX_CODE = "the VSF authors' range for FLUX.1-schnell, offset taken as 0:"
_WAN_CODE = "the VSF authors' ranges for Wan 2.1: scale .8 to 1.8, bias -.1 to -.2"

_SOURCED: Mapping[str, tuple[Preset, ...]] = {
    "tiny": (
        Preset(
            "quality",
            "vsf",
            {"scale": 2.1, "orthogonal": True},
            "tuned on tiny",
            "in context, most removal at a positive score of .97 on dev prompts: benchmarks/results/tiny_figures.json",
        ),
        Preset(
            "strong",
            "vsf",
            {"scale": 4.0, "orthogonal": True},
            "tuned on tiny",
            "keeps a positive score of .87 out of context, too, on dev prompts: benchmarks/results/tiny_figures.json",
        ),
    ),
    "sd3": (
        _reference("quality", 3.0, 0.08, _SD3_CODE),
        _reference("strong", 3.8, 0.2, _SD3_CODE),
        Preset("quality", "nag", NormalizedAttentionGuidance.PRESETS["nag"], "paper", "arXiv:2508.10931, as NAG"),
        Preset("strong", "nag", NormalizedAttentionGuidance.PRESETS["nag++"], "paper", "arXiv:2508.10931, as NAG++"),
        Preset("quality", "nasa", {"scale": 0.25}, "paper", "arXiv:2508.10931, as NASA"),
    ),
    "flux": (
        _reference("quality", 3.5, 0.0, _FLUX_CODE),
        _reference("strong", 8.0, 0.0, _FLUX_CODE),
    ),
    "wan": (
        Preset("quality", "vsf", {"scale": 0.8, "offset": 0.2}, "paper", f"{_WAN_CODE}; the mild end"),
        Preset("strong", "vsf", {"scale": 1.8, "offset": 0.1}, "paper", f"{_WAN_CODE}; the strong end"),
    ),
}
"""Settings published for a family, or found for an embedded model, which is far smaller than the family it is like."""


def _guessed(family: Family) -> tuple[Preset, ...]:
    """Guess settings for a family without published ones, from families that attend to the text in the same way."""
    if any(role.kind == "joint" for _, role in family.roles):
        knobs_of_names: Mapping[str, Mapping[str, Any]] = {"quality": {"scale": 1.0}, "strong": {"scale": 2.0}}
        source = (
            "nothing was published; of .9 to 3.5 for SD3.5 and FLUX.1, which join text and image too, the mild half"
        )
    else:
        knobs_of_names = {preset.name: preset.knobs for preset in _SOURCED["wan"]}
        source = "nothing was published; as Wan, whose image attends to the text in layers of their own too"
    return tuple(Preset(name, "vsf", knobs, "untested", source) for name, knobs in knobs_of_names.items())


def _all_presets() -> dict[str, tuple[Preset, ...]]:
    presets = dict(_SOURCED)
    for name, family in FAMILIES.items():
        if name not in presets:
            presets[name] = _guessed(family)
    return presets


PRESETS: Mapping[str, tuple[Preset, ...]] = MappingProxyType(_all_presets())
"""By family or embedded model."""


def find(owner: str, method: str, name: str) -> Preset:
    """Return a preset of a family, or of an embedded model.

    Raises:
        UnknownNameError: there is no preset of that name, none of that name for the method, or none for the owner.
    """
    NAMES[name]  # raises UnknownNameError
    presets = PRESETS.get(owner, ())
    if not presets:
        raise UnknownNameError(f"{owner} has no presets. With presets: {', '.join(PRESETS)}. Set the knobs instead.")
    for preset in presets:
        if (preset.method, preset.name) == (method, name):
            return preset
    alternatives = ", ".join(f"{preset.name} ({preset.method})" for preset in presets)
    raise UnknownNameError(f'{owner} has no preset "{name}" for the method {method}. It has: {alternatives}.')
