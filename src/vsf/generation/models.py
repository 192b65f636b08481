"""Load a model by name into a pipeline that is ready to run, and identify its weights."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from vsf.errors import RequestError, UnsupportedPipelineError
from vsf.families import FAMILIES
from vsf.families.catalogue.unsupported import refusal, unsupported_reason
from vsf.generation.metadata.hashes import hash_file, hash_folder
from vsf.generation.request import Lora, Request
from vsf.generation.sources import check_complete, check_size, locate, read_index

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

__all__ = [
    "Model",
    "available_gpus",
    "hash_file",
    "hash_folder",
    "image_to_image",
    "load",
    "takes",
    "usable_device",
]

SD3_KEY = ".joint_blocks."  # part of every SD3 checkpoint's keys, and of no other family's


@dataclass(frozen=True)
class Model:
    """A loaded model.

    Args:
        pipe: the pipeline.
        origin: its entries in metadata: a hub id or hashes of weights, dtype, device and LoRAs, never a path.
    """

    pipe: DiffusionPipeline
    origin: Mapping[str, Any] = field(default_factory=dict)


def load(request: Request) -> Model:
    """Load the model that a request names: an embedded one, a folder, a .safetensors checkpoint or a hub id.

    Weights are read from safetensors only, and code that comes with a model is never run.

    Raises:
        RequestError: there is no such model, it cannot be loaded or put on the device, or it rejects the size or a
            LoRA.
        UnknownNameError: a plain name that is not an embedded model's.
        UnsupportedPipelineError: no family recognises the pipeline.
    """
    check_size(locate(request.model), request.size, request.image)
    device = usable_device(request.device)
    dtype = _dtype(request.dtype, device)
    pipe, origin = _open(request.model, dtype)
    pipe.set_progress_bar_config(disable=True)
    loras = _add_loras(pipe, request.loras)
    if request.image is not None:
        pipe = image_to_image(pipe)
    _place(pipe, device, request.offload)
    origin |= {"dtype": str(dtype).removeprefix("torch."), "device": torch.device(device).type, "loras": loras}
    return Model(pipe, origin)


def image_to_image(pipe: DiffusionPipeline) -> DiffusionPipeline:
    """Return the image-to-image pipeline over the same models.

    Raises:
        RequestError: diffusers has none for this pipeline.
    """
    from diffusers import AutoPipelineForImage2Image

    if takes(pipe, "num_frames") and takes(pipe, "image"):
        return pipe  # image-to-video pipelines take a start image themselves
    try:
        image_pipe = AutoPipelineForImage2Image.from_pipe(pipe)
    except ValueError as error:
        raise RequestError(f"{type(pipe).__name__} cannot start from an image: {_first_line(error)}") from error
    image_pipe.set_progress_bar_config(disable=True)
    return image_pipe


def takes(pipe: DiffusionPipeline, argument: str) -> bool:
    """Tell whether calls of a pipeline take an argument of this name."""
    return argument in inspect.signature(type(pipe).__call__).parameters


def _open(name: str, dtype: torch.dtype) -> tuple[DiffusionPipeline, dict[str, Any]]:
    """Load a pipeline in `dtype` on the CPU; also return the origin of its weights."""
    source = locate(name)
    if source.path is None:
        folder = _download(source.name, source.revision)
        return _from_folder(folder, dtype), {"model": source.name, "revision": folder.name}
    if source.kind == "checkpoint":
        return _from_file(source.path, dtype), {"weights": hash_file(source.path)}
    weights = {"weights": hash_folder(source.path)}
    if source.kind == "embedded":
        return _from_folder(source.path, dtype, _clip_encoders(source.path, dtype)), {"model": name, **weights}
    return _from_folder(source.path, dtype), weights


def _clip_encoders(folder: Path, dtype: torch.dtype) -> dict[str, nn.Module]:
    """Load the text encoders of an embedded model; {} if this version of transformers names their weights differently.

    `from_pretrained` first compiles its rules for renaming the weights of every architecture. That takes longer than
    all the rest of loading an embedded model, whose weights need no renaming.
    """
    from safetensors.torch import load_file
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    encoders = {}
    for part in ("text_encoder", "text_encoder_2"):
        encoder = CLIPTextModelWithProjection(CLIPTextConfig.from_pretrained(folder / part))
        tensors = load_file(folder / part / "model.safetensors")
        if tensors.keys() != encoder.state_dict().keys():
            return {}
        encoder.load_state_dict(tensors)
        encoders[part] = encoder.to(dtype).eval()
    return encoders


def _from_folder(
    folder: Path, dtype: torch.dtype, loaded_parts: Mapping[str, nn.Module] = MappingProxyType({})
) -> DiffusionPipeline:
    """Load a diffusers folder, except for the parts that are loaded already."""
    from diffusers import DiffusionPipeline

    index = read_index(folder)
    _check_family(index)
    check_complete(folder, index)
    # diffusers fails on a part that its own index declares to be absent, unless it is passed as None.
    absent_parts = {name: None for name, entry in index.items() if entry == [None, None]}
    parts = {**absent_parts, **loaded_parts}
    try:
        return DiffusionPipeline.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, trust_remote_code=False, local_files_only=True, **parts
        )
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise RequestError(f'cannot load the model in "{folder}": {_first_line(error)}') from error


def _from_file(file: Path, dtype: torch.dtype) -> DiffusionPipeline:
    """Load a checkpoint of Stable Diffusion 3; diffusers fetches the configuration, which the file does not hold."""
    from diffusers import StableDiffusion3Pipeline
    from diffusers.loaders.single_file_utils import SingleFileComponentError

    if not any(SD3_KEY in f".{key}" for key in _keys(file)):
        raise UnsupportedPipelineError(
            f'no family recognises the checkpoint "{file}". Supported: {", ".join(FAMILIES)}.'
        )
    try:
        return StableDiffusion3Pipeline.from_single_file(file, dtype=dtype)
    except (OSError, ValueError, SingleFileComponentError) as error:
        raise RequestError(f'cannot load the checkpoint "{file}": {_first_line(error)}') from error


def _keys(file: Path) -> Iterable[str]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as tensors:
            return list(tensors.keys())
    except (OSError, SafetensorError) as error:
        raise RequestError(f'cannot read "{file}" as safetensors: {_first_line(error)}') from error


def _download(hub_id: str, revision: str | None) -> Path:
    """Download a model into the local cache, and return its folder, which is named after the exact commit."""
    from diffusers import DiffusionPipeline
    from huggingface_hub import hf_hub_download

    try:
        index = Path(hf_hub_download(hub_id, "model_index.json", revision=revision))
        # Checked before gigabytes of weights are fetched.
        _check_family(json.loads(index.read_text(encoding="utf-8")))
        folder = DiffusionPipeline.download(hub_id, revision=revision, use_safetensors=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise RequestError(
            f'cannot fetch "{hub_id}" from the hub: {_first_line(error)} '
            "Check the name, the network and, for models that want a login, your access."
        ) from error
    return Path(folder)


def _check_family(index: Mapping[str, Any]) -> None:
    """Raise UnsupportedPipelineError for a pipeline that cannot be guided, or is newer than diffusers."""
    import diffusers

    name = index.get("_class_name")
    shown_name = index.get("_class_name", "this model")
    part_classes: set[str] = set()
    for entry in index.values():
        if isinstance(entry, list | tuple) and len(entry) == 2:  # library and class
            part_classes.add(entry[1])
    if not any(part_classes & set(family.denoisers) for family in FAMILIES.values()):
        pipeline = getattr(diffusers, name, object) if isinstance(name, str) else object
        if reason := refusal(pipeline, part_classes):
            raise UnsupportedPipelineError(f"{shown_name} cannot be guided: {reason}")
        raise UnsupportedPipelineError(
            f'no family recognises {shown_name}. Supported: {", ".join(FAMILIES)}. Run "vsf list families" for details.'
        )
    if not isinstance(name, str):
        return
    if not hasattr(diffusers, name):
        raise UnsupportedPipelineError(
            f"diffusers {diffusers.__version__} has no {name}; install a release that has it."
        )
    if reason := unsupported_reason(getattr(diffusers, name)):
        raise UnsupportedPipelineError(f"{name} cannot be guided: {reason}")


def _add_loras(pipe: DiffusionPipeline, loras: Iterable[Lora]) -> list[dict[str, Any]]:
    """Load LoRAs onto a pipeline, and return their entries in the metadata: hash and weight of each."""
    entries: list[dict[str, Any]] = []
    weights: dict[str, float] = {}
    for index, lora in enumerate(loras):
        name = f"lora{index}"
        weights[name] = 1.0 if lora.weight is None else lora.weight
        _add_lora(pipe, name, lora)
        entries.append({"sha256": hash_file(lora.file), "weight": weights[name]})
    if weights:
        pipe.set_adapters(list(weights), list(weights.values()))
    return entries


def _add_lora(pipe: DiffusionPipeline, name: str, lora: Lora) -> None:
    from safetensors import SafetensorError

    try:
        pipe.load_lora_weights(
            lora.file.parent, weight_name=lora.file.name, adapter_name=name, use_safetensors=True, local_files_only=True
        )
    except (OSError, ValueError, KeyError, RuntimeError, AttributeError, SafetensorError) as error:
        raise RequestError(f'cannot load the LoRA "{lora.file}": {_first_line(error)}') from error
    if not any(name in adapters for adapters in pipe.get_list_adapters().values()):
        raise RequestError(f'the LoRA "{lora.file}" changes nothing in {type(pipe).__name__}: no key of it matches.')


def available_gpus() -> list[str]:
    """Return the types of GPU that torch can use on this machine, the preferred one first."""
    return [kind for kind in ("cuda", "mps") if getattr(torch, kind).is_available()]


def usable_device(name: str) -> str:
    """Return the device of a name; `auto` is a GPU if there is one, otherwise the CPU.

    Raises:
        RequestError: the device cannot be used on this machine.
    """
    if name == "auto":
        gpus = available_gpus()
        return gpus[0] if gpus else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise RequestError(f'the device "{name}" cannot be used here: {_first_line(error)}') from error
    return name


def _dtype(name: str, device: str) -> torch.dtype:
    if name == "auto":
        name = "bfloat16" if device.startswith("cuda") else "float32"
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def _place(pipe: DiffusionPipeline, device: str, offload: str) -> None:
    if offload == "none":
        pipe.to(device)
    elif device == "cpu":
        raise RequestError(f"offload {offload} moves parts between a GPU and memory; there is no GPU in use here.")
    elif offload == "model":
        pipe.enable_model_cpu_offload(device=device)
    else:
        pipe.enable_sequential_cpu_offload(device=device)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
