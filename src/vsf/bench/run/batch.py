"""A batch of prompts drawn with one setting: the work that an engine hands to its workers."""

from __future__ import annotations

import hashlib
import io
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import BaseModel, ConfigDict, Field

from vsf import tiny
from vsf.bench.ablations import given
from vsf.bench.plan import Setting
from vsf.errors import RequestError, VsfError
from vsf.generation import Model, Request, load, models, sources
from vsf.generation.metadata import provenance
from vsf.patch import guide
from vsf.text.context import belonging
from vsf.tiny.collapse_padding import collapse_padding

if TYPE_CHECKING:
    from PIL.Image import Image

    from vsf.bench.suites.load import Pair

FRAMES_KEPT = 4  # of a clip: the judge sees these


class Conditions(BaseModel):
    """What the rows of one folder have in common, because it moves pixels: a run cannot go on under other ones.

    `batch` prompts are drawn at a time on `threads` CPU threads of each worker; both decide the last bits. `frames` is
    the length of a clip, None for images.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = "tiny"
    size: tuple[int, int] | None = None
    frames: int | None = None
    dtype: str = "auto"
    device: str = "auto"
    batch: int = Field(1, ge=1, le=1024)
    threads: int = Field(1, ge=1, le=1024)


@dataclass(frozen=True)
class Batch:
    """One job: prompts that a setting draws together from the noise of one seed, on a model of known weights."""

    setting: Setting
    pairs: tuple[Pair, ...]
    seed: int
    model: str
    revision: str


@dataclass(frozen=True)
class Drawn:
    """A finished batch: per pair a PNG file, which holds the frames of a clip one behind the other."""

    batch: Batch
    files: tuple[bytes, ...]
    frames: int
    size: tuple[int, int]
    seconds: float
    peak_memory: int | None
    host: str
    device: str
    versions: dict[str, str]


@dataclass
class Drawing:
    """The work itself; each worker keeps the model that it used last."""

    conditions: Conditions
    _loaded: tuple[str, Model] | None = field(default=None, init=False)

    def __call__(self, batch: Batch) -> Drawn:
        """Draw a batch. Raises RequestError for what the model refuses, VsfError for what `vsf.guide` does."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.conditions.threads)
        try:
            return self._draw(batch)
        finally:
            torch.set_num_threads(before)

    def _draw(self, batch: Batch) -> Drawn:
        model = self._model(batch)
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        began = time.perf_counter()
        pictures = draw(model.pipe, batch, self.conditions)
        seconds = time.perf_counter() - began
        return Drawn(
            batch,
            tuple(png(frames) for frames in pictures),
            len(pictures[0]),
            pictures[0][0].size,
            round(seconds / len(pictures), 4),
            peak_memory(),
            platform.node(),
            str(model.origin["device"]),
            provenance.versions(),
        )

    def _model(self, batch: Batch) -> Model:
        if self._loaded is None or self._loaded[0] != batch.model:
            self._loaded = None  # free the old one first
            _hush()
            dtype, device = self.conditions.dtype, self.conditions.device
            model = load(Request("any", model=batch.model, dtype=dtype, device=device))
            if batch.model in tiny.MODELS:
                collapse_padding(model.pipe)
            short = replace(batch, setting=batch.setting.model_copy(update={"steps": 2}), pairs=batch.pairs[:1])
            draw(model.pipe, short, self.conditions)  # warms up, so that the seconds of the first row mean something
            self._loaded = batch.model, model
        return self._loaded[1]


def draw(pipe: Any, batch: Batch, conditions: Conditions) -> list[list[Image]]:
    """The pictures of a batch, each as its frames; a still image is one frame.

    An image starts from noise that its pair and seed decide alone, so that settings are compared on equal terms.
    """
    setting, method = batch.setting, batch.setting.guidance()
    negatives = [pair.negative for pair in batch.pairs]
    arguments: dict[str, Any] = {
        "prompt": [pair.prompt for pair in batch.pairs],
        "num_inference_steps": setting.steps,
        "guidance_scale": setting.guidance_scale,
        "generator": [torch.Generator().manual_seed(noise_seed(pair.id, batch.seed)) for pair in batch.pairs],
    }
    if conditions.size is not None:
        arguments |= {"width": conditions.size[0], "height": conditions.size[1]}
    if conditions.frames is not None:
        arguments |= {"num_frames": conditions.frames, "output_type": "pil"}
    within = [belonging(pair.prompt) for pair in batch.pairs] if setting.within == "subject" else None
    if setting.negative == "pipeline":
        arguments["negative_prompt"] = negatives
        negatives = [""] * len(negatives)
    try:
        with guide(pipe, **given(method, pipe, negatives), within=within, method=method, schedule=setting.when()):
            output = pipe(**arguments)
    except VsfError:
        raise
    except (ValueError, TypeError) as error:
        raise RequestError(f'the pipeline refuses the setting "{setting.label}": {error}') from error
    except torch.OutOfMemoryError as error:
        raise RequestError("the GPU's memory is too small: ask for a smaller --batch or --size.") from error
    if conditions.frames is None:
        return [[image] for image in output.images]
    return [_kept(frames) for frames in output.frames]


def noise_seed(pair: str, seed: int) -> int:
    """The seed of an image's noise: another one for each pair, the same for every setting."""
    return int.from_bytes(hashlib.sha256(f"{seed} {pair}".encode()).digest()[:6])


def png(frames: Sequence[Image]) -> bytes:
    """A PNG file without loss; several frames make an animated one."""
    stream = io.BytesIO()
    several = {"save_all": True, "append_images": list(frames[1:])} if len(frames) > 1 else {}
    frames[0].save(stream, format="PNG", **several)
    return stream.getvalue()


def peak_memory() -> int | None:
    """Bytes: the GPU's since they were last counted afresh, or this process's since it began; None on Windows."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    try:
        import resource
    except ModuleNotFoundError:
        return None
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


def identify(model: str) -> tuple[str, str]:
    """The model under a name that cannot change its meaning, and the commit or hash of its weights.

    Raises:
        RequestError: there is no such model.
    """
    path = Path(model).expanduser()
    if model not in tiny.MODELS:
        if path.is_dir():
            return model, models.hash_folder(path)
        if path.is_file():
            return model, models.hash_file(path)
        if hub := sources.HUB_ID.fullmatch(model):
            commit = _commit(hub["id"], hub["revision"])
            return f"{hub['id']}@{commit}", commit
    return model, models.hash_folder(tiny.folder(model))


def shown(model: str) -> str:
    """The model as rows and manifest name it: a folder or file goes by its own name, without where it lies."""
    path = Path(model).expanduser()
    return path.name if path.exists() else model


def _hush() -> None:
    """Keep the bars and advice of the libraries out of the progress of the run."""
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()


def _commit(hub_id: str, revision: str | None) -> str:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(hub_id, "model_index.json", revision=revision)).parent.name
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise RequestError(f'cannot find "{hub_id}" on the hub: {reason}') from error


def _kept(frames: Sequence[Image]) -> list[Image]:
    """Evenly spaced frames of a clip, the first and the last among them."""
    count = min(FRAMES_KEPT, len(frames))
    return [frames[round(index * (len(frames) - 1) / max(1, count - 1))] for index in range(count)]
