"""What `vsf doctor` finds out about a model from its configuration, without loading a weight."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vsf import tiny
from vsf.errors import RequestError, UnsupportedAttentionError, UnsupportedPipelineError
from vsf.families import FAMILIES, find_family
from vsf.families.base.family import Family
from vsf.families.catalogue.unsupported import UNSUPPORTED_DENOISERS
from vsf.generation.sources import HUB_ID
from vsf.guidance import Unguided
from vsf.patching.processor_twins import Twins

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


def recognise(name: str | Path) -> list[Recognised]:
    """Look at each denoiser of a model, or of a pipeline class of diffusers.

    name: a diffusers folder, an embedded model's name, a hub id (id@revision), of which the configuration is fetched
    and no weights, or the class. Raises RequestError for what is none of them.
    """
    folder = tiny.folder(str(name)) if str(name) in tiny.MODELS else Path(name)
    fetch: Callable[[str], Path] = folder.joinpath
    if not folder.exists():
        if denoisers := _denoisers_of(str(name)):
            return [_recognised(str(name), cls, _of_usual_size(cls)) for cls in denoisers]
        hub = HUB_ID.fullmatch(str(name))
        if hub is None or str(name).startswith((".", "~")):
            raise RequestError(
                f'"{name}" is no diffusers folder, no hub id such as owner/name, no pipeline class of diffusers and '
                f"none of {', '.join(tiny.MODELS)}."
            )
        fetch = partial(_from_hub, hub["id"], hub["revision"])
    index = _json(fetch("model_index.json"))
    parts = {name: value[-1] for name, value in index.items() if isinstance(value, list) and value[-1]}
    named = {name: cls for name, cls in parts.items() if name.startswith(_DENOISERS) or any(_families_with(cls))}
    if not named:
        raise RequestError(f"{name} has no {', '.join(_DENOISERS)} in its model_index.json: nothing here draws")
    configs = {part: _json(fetch(f"{part}/config.json")) for part in named}
    pipeline = index.get("_class_name", "?")
    return [_recognised(pipeline, cls, _without_weights(cls, configs[part])) for part, cls in named.items()]


def _from_hub(hub_id: str, revision: str | None, file: str) -> Path:
    """Fetch one file of a model into the local cache. Raises RequestError where that cannot be done."""
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(hub_id, file, revision=revision))
    except (OSError, ValueError) as error:
        raise RequestError(
            f'cannot fetch {file} of "{hub_id}" from the hub: {str(error).strip().partition(chr(10))[0]} '
            "Check the name, the network and, for models that want a login, your access."
        ) from error


def _denoisers_of(pipeline: str) -> list[str]:
    """Name the denoisers that a pipeline class of diffusers is made with, () for what is no such class."""
    import diffusers

    cls = getattr(diffusers, pipeline, None) if "Pipeline" in pipeline else None
    if cls is None:
        return []
    parameters = inspect.signature(cls.__init__).parameters.items()
    taken = [(name, word) for name, taken in parameters for word in re.findall(r"\w+", str(taken.annotation))]
    found = [word for name, word in taken if name.startswith(_DENOISERS) or any(_families_with(word))]
    classes = {word: getattr(diffusers, word, None) for word in found}
    return [word for word, cls in classes.items() if inspect.isclass(cls) and issubclass(cls, nn.Module)]


def _of_usual_size(denoiser: str) -> nn.Module | None:
    """Build a denoiser as large as diffusers makes it unasked. Raises RequestError where it has to be told."""
    try:
        return _without_weights(denoiser, {})
    except TypeError:
        raise RequestError(
            f"{denoiser} has no usual size: give the folder of a model, with its configuration."
        ) from None


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise RequestError(f"expected a diffusers folder, with {file.name} in it: {error}") from None
    if not isinstance(found, dict):
        raise RequestError(f"{file} is no JSON object")
    return found


def _recognised(pipeline: str, denoiser: str, model: nn.Module | None) -> Recognised:
    if model is None:
        name = next(_families_with(denoiser), "")
        return Recognised(pipeline, denoiser, name, (), (), f"this diffusers has no {denoiser}: another version has it")
    target = _stand_in(pipeline, model)
    try:
        family = find_family(target)
    except UnsupportedPipelineError:
        layers = {path: part for path, part in model.named_modules() if hasattr(part, "processor")}
        reason = UNSUPPORTED_DENOISERS.get(denoiser, f"no family knows {denoiser}; {HOW_TO} says how to add one")
        arguments = tuple(inspect.signature(type(model).forward).parameters)[1:]
        return Recognised(pipeline, denoiser, "", tuple(_grouped(layers)), arguments, reason)
    groups, reason = tuple(_grouped(_layers(family, model))), ""
    try:
        family.check(target, Unguided())
        family.attention_layers(model)
    except (UnsupportedPipelineError, UnsupportedAttentionError) as error:
        reason = str(error)
    obstacles = (group.obstacle for group in groups if group.obstacle)
    return Recognised(pipeline, denoiser, family.name, groups, (), reason or next(obstacles, ""))


def _layers(family: Family, model: nn.Module) -> dict[str, nn.Module]:
    """Return the layers to guide by name, {} where there is none."""
    try:
        return {path: layer for path, (layer, _) in family.attention_layers(model).items()}
    except UnsupportedAttentionError:
        return {}


def _families_with(denoiser: str) -> Iterator[str]:
    return (family.name for family in FAMILIES.values() if denoiser in family.denoisers)


def _stand_in(pipeline: str, model: nn.Module) -> Any:
    """Make an object that families take for a pipeline of that class, with this denoiser and nothing else."""
    import diffusers

    host = getattr(diffusers, pipeline, object)
    return object.__new__(type(pipeline, (host,), {"components": {"denoiser": model}}))


def _without_weights(denoiser: str, config: Mapping[str, Any]) -> nn.Module | None:
    """Build a denoiser from its configuration, with weights that hold no numbers; None if diffusers has it not."""
    import diffusers

    cls = getattr(diffusers, denoiser, None)
    if cls is None:
        return None
    with torch.device("meta"):
        return cls.from_config(dict(config))


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
