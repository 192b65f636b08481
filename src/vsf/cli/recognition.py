"""What `vsf doctor` finds out about a model from its configuration, without loading a weight."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vsf.errors import RequestError, UnsupportedAttentionError, UnsupportedPipelineError
from vsf.families import FAMILIES, find_family
from vsf.families.refused import REFUSED
from vsf.guidance import Unguided
from vsf.hooks import Twins

HOW_TO = "docs/how-to/add-a-family.md"
_DENOISERS = ("transformer", "unet", "prior")  # how diffusers names the components that predict the noise


@dataclass(frozen=True, slots=True)
class Layers:
    """Attention layers of one name, numbers aside, and what speaks against guiding them; "" for nothing."""

    pattern: str
    count: int
    processor: str
    obstacle: str = ""


@dataclass(frozen=True, slots=True)
class Recognised:
    """One model: its pipeline, its denoiser, and the family that guides it, "" for none.

    layers: those that would be guided, or, without a family, all attention layers. arguments: what the denoiser is
    called with, where there is no family. missing: what keeps it from being guided, "" for nothing.
    """

    pipeline: str
    denoiser: str
    family: str
    layers: tuple[Layers, ...]
    arguments: tuple[str, ...] = ()
    missing: str = ""

    def document(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {"guided": not self.missing, **asdict(self)}


def recognise(folder: str | Path) -> list[Recognised]:
    """Look at each denoiser of a diffusers folder. Raises RequestError for what is no such folder."""
    index = _json(Path(folder) / "model_index.json")
    parts = {name: value[-1] for name, value in index.items() if isinstance(value, list) and value[-1]}
    named = {name: cls for name, cls in parts.items() if name.startswith(_DENOISERS) or any(_families_with(cls))}
    if not named:
        raise RequestError(f"{folder} has no {', '.join(_DENOISERS)} in its model_index.json: nothing here draws")
    return [_recognised(index.get("_class_name", "?"), cls, Path(folder) / name) for name, cls in named.items()]


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise RequestError(f"expected a diffusers folder, with {file.name} in it: {error}") from None
    if not isinstance(found, dict):
        raise RequestError(f"{file} is no JSON object")
    return found


def _recognised(pipeline: str, denoiser: str, folder: Path) -> Recognised:
    model = _without_weights(denoiser, folder)
    if model is None:
        name = next(_families_with(denoiser), "")
        return Recognised(pipeline, denoiser, name, (), (), f"this diffusers has no {denoiser}: another version has it")
    target = _stand_in(pipeline, model)
    try:
        family = find_family(target)
    except UnsupportedPipelineError:
        layers = {path: part for path, part in model.named_modules() if hasattr(part, "processor")}
        reason = REFUSED.get(denoiser, f"no family knows {denoiser}; {HOW_TO} says how to add one")
        arguments = tuple(inspect.signature(type(model).forward).parameters)[1:]
        return Recognised(pipeline, denoiser, "", tuple(_grouped(layers)), arguments, reason)
    try:
        family.check(target, Unguided())
        groups, reason = (
            tuple(_grouped({path: layer for path, (layer, _) in family.attention_layers(model).items()})),
            "",
        )
    except (UnsupportedPipelineError, UnsupportedAttentionError) as error:
        groups, reason = (), str(error)
    obstacles = (group.obstacle for group in groups if group.obstacle)
    return Recognised(pipeline, denoiser, family.name, groups, (), reason or next(obstacles, ""))


def _families_with(denoiser: str) -> Iterator[str]:
    return (family.name for family in FAMILIES.values() if denoiser in family.denoisers)


def _stand_in(pipeline: str, model: nn.Module) -> Any:
    """Make an object that families take for a pipeline of that class, with this denoiser and nothing else."""
    import diffusers

    host = getattr(diffusers, pipeline, object)
    return object.__new__(type(pipeline, (host,), {"components": {"denoiser": model}}))


def _without_weights(denoiser: str, folder: Path) -> nn.Module | None:
    """Build the denoiser from its configuration, with weights that hold no numbers; None if diffusers has it not."""
    import diffusers

    cls = getattr(diffusers, denoiser, None)
    if cls is None:
        return None
    with torch.device("meta"):
        return cls.from_config(_json(folder / "config.json"))


def _grouped(layers: Mapping[str, Any]) -> Iterator[Layers]:
    """Put layers whose names differ in their numbers alone together."""
    patterns: dict[str, list[str]] = {}
    for name in layers:
        patterns.setdefault(re.sub(r"(?<=\.)\d+(?=\.)", "#", name), []).append(name)
    for pattern, names in patterns.items():
        first = layers[names[0]]
        yield Layers(pattern, len(names), type(first.processor).__name__, _obstacle(names[0], first))


def _obstacle(name: str, layer: nn.Module) -> str:
    try:
        Twins({name: (layer, _leave)})
    except UnsupportedAttentionError as error:
        return str(error)
    return ""


def _leave(query: Tensor, key: Tensor, value: Tensor, options: Mapping[str, Any]) -> Tensor | None:
    """An attention that leaves every call to the host."""
    del query, key, value, options
    return None
