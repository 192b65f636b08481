"""From a model's name to a pipeline that is ready to run, and to what identifies its weights."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from vsf.errors import RequestError, UnsupportedPipelineError
from vsf.families import FAMILIES
from vsf.families.catalogue.unsupported import UNSUPPORTED_DENOISERS, unsupported_reason
from vsf.generation.metadata.hashes import hash_file, hash_folder
from vsf.generation.request import Lora, Request
from vsf.generation.sources import check_complete, check_size, locate, read_index

__all__ = ["Model", "hash_file", "hash_folder", "image_to_image", "load", "takes", "usable_device"]

SD3_KEY = ".joint_blocks."  # what every checkpoint of the SD3 family calls its blocks, and no other does


@dataclass(frozen=True)
class Model:
    """A pipeline, and `origin`: what a picture's metadata says about it (hub id or hashes of weights, never a path)."""

    pipe: Any
    origin: Mapping[str, Any] = field(default_factory=dict)


def load(request: Request) -> Model:
    """Load the model that a request names: an embedded one, a folder, a .safetensors checkpoint or a hub id.

    Weights come from safetensors alone and no code that travels with a model is run.

    Raises:
        RequestError: there is no such model, it cannot be loaded or put on the device, or it takes not the size or a
            LoRA.
        UnknownNameError: a plain name that is not an embedded model's.
        UnsupportedPipelineError: no family recognises the pipeline.
    """
    check_size(locate(request.model), request.size, request.image)
    device = usable_device(request.device)
    dtype = _dtype(request.dtype, device)
    pipe, origin = _open(request.model, dtype)
    pipe.set_progress_bar_config(disable=True)
    loras = [_add_lora(pipe, f"lora{index}", lora) for index, lora in enumerate(request.loras)]
    if loras:
        names = [f"lora{index}" for index in range(len(loras))]
        pipe.set_adapters(names, [lora["weight"] for lora in loras])
    if request.image is not None:
        pipe = image_to_image(pipe)
    _place(pipe, device, request.offload)
    place = {"dtype": str(dtype).removeprefix("torch."), "device": torch.device(device).type}
    return Model(pipe, {**origin, **place, "loras": loras})


def image_to_image(pipe: Any) -> Any:
    """The image-to-image pipeline over the same models; raises RequestError where diffusers has none."""
    from diffusers import AutoPipelineForImage2Image

    if takes(pipe, "num_frames") and takes(pipe, "image"):
        return pipe  # it starts from a picture as it is
    try:
        image_pipe = AutoPipelineForImage2Image.from_pipe(pipe)
    except ValueError as error:
        raise RequestError(f"{type(pipe).__name__} cannot start from an image: {_first_line(error)}") from error
    image_pipe.set_progress_bar_config(disable=True)
    return image_pipe


def takes(pipe: Any, argument: str) -> bool:
    """Whether calls of a pipeline have an argument of this name."""
    return argument in inspect.signature(type(pipe).__call__).parameters


def _open(name: str, dtype: torch.dtype) -> tuple[Any, dict[str, Any]]:
    """The pipeline in `dtype` on the CPU, and the origin of its weights."""
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


def _clip_encoders(folder: Path, dtype: torch.dtype) -> dict[str, Any]:
    """Read the text encoders of an embedded model, {} where this transformers names their weights otherwise.

    `from_pretrained` first compiles the rules by which it renames the weights of every model there is, which takes
    longer than all the rest of loading an embedded model, whose weights have no need of them.
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


def _from_folder(folder: Path, dtype: torch.dtype, parts_at_hand: Mapping[str, Any] = MappingProxyType({})) -> Any:
    """Load a diffusers folder, but for the parts that are at hand already."""
    from diffusers import DiffusionPipeline

    parts = read_index(folder)
    _check_family(parts)
    check_complete(folder, parts)
    left_out = {name: None for name, part in parts.items() if part == [None, None]}  # diffusers wants to be told again
    given = {**left_out, **parts_at_hand}
    try:
        return DiffusionPipeline.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, trust_remote_code=False, local_files_only=True, **given
        )
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise RequestError(f'cannot load the model in "{folder}": {_first_line(error)}') from error


def _from_file(file: Path, dtype: torch.dtype) -> Any:
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
    """Fetch what a model needs into the local cache; the folder is named after the exact commit."""
    from diffusers import DiffusionPipeline
    from huggingface_hub import hf_hub_download

    try:
        index = Path(hf_hub_download(hub_id, "model_index.json", revision=revision))
        _check_family(json.loads(index.read_text(encoding="utf-8")))
        folder = DiffusionPipeline.download(hub_id, revision=revision, use_safetensors=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise RequestError(
            f'cannot fetch "{hub_id}" from the hub: {_first_line(error)} '
            "Check the name, the network and, for models that want a login, your access."
        ) from error
    return Path(folder)


def _check_family(index: Mapping[str, Any]) -> None:
    """Refuse, before any weights are read, a pipeline that cannot be guided, or is newer than diffusers."""
    import diffusers

    parts = {entry[1] for entry in index.values() if isinstance(entry, list | tuple) and len(entry) == 2}
    if reason := next((UNSUPPORTED_DENOISERS[part] for part in parts & set(UNSUPPORTED_DENOISERS)), None):
        raise UnsupportedPipelineError(f"{index.get('_class_name', 'this model')} cannot be guided: {reason}")
    if not any(parts & set(family.denoisers) for family in FAMILIES.values()):
        raise UnsupportedPipelineError(
            f"no family recognises {index.get('_class_name', 'this model')}. Supported: {', '.join(FAMILIES)}. "
            'Run "vsf list families" for details.'
        )
    name = index.get("_class_name")
    if isinstance(name, str) and not hasattr(diffusers, name):
        raise UnsupportedPipelineError(
            f"diffusers {diffusers.__version__} has no {name}; install a release that has it."
        )
    if isinstance(name, str) and (reason := unsupported_reason(getattr(diffusers, name))):
        raise UnsupportedPipelineError(f"{name} cannot be guided: {reason}")


def _add_lora(pipe: Any, name: str, lora: Lora) -> dict[str, Any]:
    """Load one LoRA under an adapter name; returns what metadata keeps of it."""
    from safetensors import SafetensorError

    try:
        pipe.load_lora_weights(
            lora.file.parent, weight_name=lora.file.name, adapter_name=name, use_safetensors=True, local_files_only=True
        )
    except (OSError, ValueError, KeyError, RuntimeError, AttributeError, SafetensorError) as error:
        raise RequestError(f'cannot load the LoRA "{lora.file}": {_first_line(error)}') from error
    if not any(name in adapters for adapters in pipe.get_list_adapters().values()):
        raise RequestError(f'the LoRA "{lora.file}" changes nothing in {type(pipe).__name__}: no key of it matches.')
    return {"sha256": hash_file(lora.file), "weight": 1.0 if lora.weight is None else lora.weight}


def usable_device(name: str) -> str:
    """The device of that name; `auto` is the best there is. Raises RequestError for one that cannot be used here."""
    if name == "auto":
        available = [kind for kind in ("cuda", "mps") if getattr(torch, kind).is_available()]
        return available[0] if available else "cpu"
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


def _place(pipe: Any, device: str, offload: str) -> None:
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
