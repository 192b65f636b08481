"""Inspect a model by its configuration, without loading a weight: its family, its attention layers, any obstacle."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from vsf import tiny
from vsf.errors import RequestError, UnsupportedAttentionError, UnsupportedPipelineError
from vsf.families import FAMILIES, find_family
from vsf.families.base.family import Family
from vsf.families.catalogue.unsupported import refusal
from vsf.generation.sources import HUB_ID
from vsf.guidance import Unguided
from vsf.patching.processor_twins import ProcessorTwins

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

HOW_TO = "docs/how-to/add-a-family.md"
# How diffusers names the components that predict the noise.
_DENOISERS = ("transformer", "unet", "prior")


@dataclass(frozen=True, slots=True)
class Layers:
    """Attention layers whose names differ in numbers only; `obstacle` is why they cannot be guided, "" if they can."""

    pattern: str
    count: int
    processor: str
    obstacle: str = ""


@dataclass(frozen=True, slots=True)
class InspectedDenoiser:
    """A denoiser of a model.

    Args:
        pipeline: class of the pipeline.
        denoiser: class of the denoiser.
        family: the family that guides it, "" for none.
        layers: the layers that would be guided; without a family, all attention layers.
        arguments: the parameters of the denoiser's call, if it has no family.
        missing: why it cannot be guided, "" if it can.
    """

    pipeline: str
    denoiser: str
    family: str
    layers: tuple[Layers, ...] = ()
    arguments: tuple[str, ...] = ()
    missing: str = ""

    def document(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {"guided": not self.missing, **asdict(self)}


def inspect_model(name: str | Path) -> list[InspectedDenoiser]:
    """Inspect each denoiser of a model, or of a pipeline class of diffusers.

    Args:
        name: a diffusers folder, an embedded model's name, a hub id (id@revision), of which only the configuration is
            downloaded, or the name of a pipeline class.

    Raises:
        RequestError: the name is none of these, or the model has no denoiser.
    """
    folder = tiny.folder(str(name)) if str(name) in tiny.MODELS else Path(name)
    fetch: Callable[[str], Path] = folder.joinpath
    if not folder.exists():
        if denoisers := _denoisers_of(str(name)):
            return [_inspect_denoiser(str(name), denoiser, _of_default_size(denoiser)) for denoiser in denoisers]
        hub = HUB_ID.fullmatch(str(name))
        if hub is None or str(name).startswith((".", "~")):
            raise RequestError(
                f'"{name}" is no diffusers folder, no hub id such as owner/name, no pipeline class of diffusers and '
                f"none of {', '.join(tiny.MODELS)}."
            )
        fetch = partial(_download, hub["id"], hub["revision"])
    index = _read_json(fetch("model_index.json"))
    denoisers_of_parts: dict[str, str] = {}
    for part, entry in index.items():
        # An entry is [library, class], or [null, null] for an absent part.
        part_class = entry[-1] if isinstance(entry, list) else None
        if part_class and (part.startswith(_DENOISERS) or any(_families_with(part_class))):
            denoisers_of_parts[part] = part_class
    if not denoisers_of_parts:
        raise RequestError(f"{name} has no {', '.join(_DENOISERS)} in its model_index.json: nothing here draws")
    pipeline = index.get("_class_name", "?")
    # All are read before a denoiser is built, so that a missing file is reported at once.
    configs = {part: _read_json(fetch(f"{part}/config.json")) for part in denoisers_of_parts}
    inspected = []
    for part, denoiser in denoisers_of_parts.items():
        inspected.append(_inspect_denoiser(pipeline, denoiser, _without_weights(denoiser, configs[part])))
    return inspected


def _download(hub_id: str, revision: str | None, file: str) -> Path:
    """Download one file of a model into the local cache.

    Raises:
        RequestError: the file cannot be downloaded.
    """
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(hub_id, file, revision=revision))
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise RequestError(
            f'cannot fetch {file} of "{hub_id}" from the hub: {reason} '
            "Check the name, the network and, for models that want a login, your access."
        ) from error


def _denoisers_of(pipeline: str) -> list[str]:
    """Return the denoiser classes in the constructor of a pipeline class; [] if diffusers has no such class."""
    import diffusers

    pipeline_class = getattr(diffusers, pipeline, None) if "Pipeline" in pipeline else None
    if pipeline_class is None:
        return []
    denoisers: dict[str, None] = {}  # an ordered set
    for name, parameter in inspect.signature(pipeline_class.__init__).parameters.items():
        # The annotation may be a union, or a string.
        for word in re.findall(r"\w+", str(parameter.annotation)):
            cls = getattr(diffusers, word, None)
            is_denoiser = name.startswith(_DENOISERS) or any(_families_with(word))
            if is_denoiser and inspect.isclass(cls) and issubclass(cls, nn.Module):
                denoisers[word] = None
    return list(denoisers)


def _of_default_size(denoiser: str) -> nn.Module | None:
    """Build a denoiser of the size that diffusers makes it by default.

    Raises:
        RequestError: it has no default size.
    """
    try:
        return _without_weights(denoiser, {})
    except TypeError:
        raise RequestError(
            f"{denoiser} has no usual size: give the folder of a model, with its configuration."
        ) from None


def _read_json(file: Path) -> dict[str, Any]:
    try:
        document = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise RequestError(f"expected a diffusers folder, with {file.name} in it: {error}") from None
    if not isinstance(document, dict):
        raise RequestError(f"{file} is no JSON object")
    return document


def _inspect_denoiser(pipeline: str, denoiser: str, model: nn.Module | None) -> InspectedDenoiser:
    if model is None:
        family_name = next(_families_with(denoiser), "")
        reason = f"this diffusers has no {denoiser}: another version has it"
        return InspectedDenoiser(pipeline, denoiser, family_name, missing=reason)
    pipe = _stand_in(pipeline, model)
    try:
        family = find_family(pipe)
    except UnsupportedPipelineError:
        layers = {path: part for path, part in model.named_modules() if hasattr(part, "processor")}
        reason = refusal(type(pipe), [denoiser]) or f"no family knows {denoiser}; {HOW_TO} says how to add one"
        # The first parameter is self.
        arguments = tuple(inspect.signature(type(model).forward).parameters)[1:]
        return InspectedDenoiser(pipeline, denoiser, "", _grouped(layers), arguments, reason)
    groups = _grouped(_guided_layers(family, model))
    try:
        family.check(pipe, Unguided())
        family.attention_layers(model)
        reason = ""
    except (UnsupportedPipelineError, UnsupportedAttentionError) as error:
        reason = str(error)
    obstacles = (group.obstacle for group in groups if group.obstacle)
    return InspectedDenoiser(pipeline, denoiser, family.name, groups, missing=reason or next(obstacles, ""))


def _guided_layers(family: Family, model: nn.Module) -> dict[str, nn.Module]:
    """Return the layers that the family would guide by name; {} if it finds none."""
    try:
        return {path: layer for path, (layer, _) in family.attention_layers(model).items()}
    except UnsupportedAttentionError:
        return {}


def _families_with(denoiser: str) -> Iterator[str]:
    return (family.name for family in FAMILIES.values() if denoiser in family.denoisers)


def _stand_in(pipeline: str, model: nn.Module) -> DiffusionPipeline:
    """Make an object that families take for a pipeline of that class, with this denoiser as its only component."""
    import diffusers

    pipeline_class = getattr(diffusers, pipeline, object)
    # A subclass whose `components` needs no __init__: that of the pipeline would want every part.
    stand_in_class = type(pipeline, (pipeline_class,), {"components": {"denoiser": model}})
    return object.__new__(stand_in_class)


def _without_weights(denoiser: str, config: Mapping[str, object]) -> nn.Module | None:
    """Build a denoiser from its configuration with weights that hold no numbers; None if this diffusers lacks it."""
    import diffusers

    denoiser_class = getattr(diffusers, denoiser, None)
    if denoiser_class is None:
        return None
    with torch.device("meta"):
        model: nn.Module = denoiser_class.from_config(dict(config))
    return model


def _grouped(layers: Mapping[str, nn.Module]) -> tuple[Layers, ...]:
    """Group layers whose names differ in numbers only."""
    names_by_pattern: dict[str, list[str]] = {}
    for name in layers:
        pattern = re.sub(r"(?<=\.)\d+(?=\.)", "#", name)
        names_by_pattern.setdefault(pattern, []).append(name)
    groups = []
    for pattern, names in names_by_pattern.items():
        first = layers[names[0]]
        groups.append(Layers(pattern, len(names), type(first.processor).__name__, _obstacle(names[0], first)))
    return tuple(groups)


def _obstacle(name: str, layer: nn.Module) -> str:
    """Return why a layer's processor cannot be guided, "" if it can."""
    try:
        ProcessorTwins({name: (layer, _leave)})
    except UnsupportedAttentionError as error:
        return str(error)
    return ""


def _leave(query: Tensor, key: Tensor, value: Tensor, options: Mapping[str, object]) -> Tensor | None:
    """An attention function that leaves every call to the host."""
    del query, key, value, options
    return None
