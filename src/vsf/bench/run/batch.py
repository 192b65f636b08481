"""Draw a batch of prompts with one setting: the work that an engine hands to its workers."""

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
from vsf.bench.ablations import negative_arguments
from vsf.bench.plan import Setting
from vsf.bench.run.rows import RunInfo
from vsf.errors import RequestError, VsfError
from vsf.generation import Model, Request, load, models, sources
from vsf.generation.metadata import provenance
from vsf.patch import guide
from vsf.text.context import belonging
from vsf.tiny.collapse_padding import collapse_padding

if TYPE_CHECKING:
    from PIL.Image import Image

    from vsf.bench.suites.load import Pair

FRAMES_KEPT = 4  # of a clip; all of these are judged


class Conditions(BaseModel):
    """Settings that all rows of a folder share, because they change pixels: a run cannot continue under others.

    Attributes:
        model: Default model of the settings.
        size: Width and height in pixels; the model's own if None.
        frames: Length of a clip; None for images.
        dtype: Of the model.
        device: Of the model.
        batch: Prompts drawn at a time. Like `threads` it decides the last bits of an image.
        threads: CPU threads of each worker.
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
    """A job: prompts to draw together.

    Attributes:
        setting: How to draw them.
        pairs: The prompts, with their negative prompts.
        seed: Decides their noise, together with the id of each pair.
        model: Where the model is.
        revision: Commit or hash of its weights.
    """

    setting: Setting
    pairs: tuple[Pair, ...]
    seed: int
    model: str
    revision: str


@dataclass(frozen=True)
class DrawnBatch:
    """The result of a job.

    Attributes:
        batch: The job.
        files: A PNG file per pair; an animated one holds the frames of a clip.
        frames: Number of frames in each file.
        size: Width and height in pixels.
        run: When, where and how fast they were drawn.
    """

    batch: Batch
    files: tuple[bytes, ...]
    frames: int
    size: tuple[int, int]
    run: RunInfo


@dataclass
class DrawJob:
    """Draws batches; each worker keeps the model that it used last."""

    conditions: Conditions
    _loaded: tuple[str, Model] | None = field(default=None, init=False)

    def __call__(self, batch: Batch) -> DrawnBatch:
        """Draw a batch.

        Raises:
            RequestError: The model refuses the setting, or there is not enough memory.
            VsfError: The model cannot be loaded or guided.
        """
        threads_before = torch.get_num_threads()
        torch.set_num_threads(self.conditions.threads)
        try:
            return self._draw(batch)
        finally:
            torch.set_num_threads(threads_before)

    def _draw(self, batch: Batch) -> DrawnBatch:
        model = self._model(batch)
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        began = time.perf_counter()
        images = draw(model.pipe, batch, self.conditions)
        seconds = time.perf_counter() - began
        run = RunInfo(
            seconds=round(seconds / len(images), 4),
            peak_memory=peak_memory(),
            host=platform.node(),
            device=str(model.origin["device"]),
            versions=provenance.versions(),
        )
        files = tuple(map(png, images))
        return DrawnBatch(batch, files, frames=len(images[0]), size=images[0][0].size, run=run)

    def _model(self, batch: Batch) -> Model:
        if self._loaded is None or self._loaded[0] != batch.model:
            self._loaded = None  # free the old model before the new one takes its memory
            _silence_libraries()
            dtype = self.conditions.dtype
            device = self.conditions.device
            model = load(Request("any", model=batch.model, dtype=dtype, device=device))
            if batch.model in tiny.MODELS:
                collapse_padding(model.pipe)
            # The first call compiles kernels and fills caches; without this the first row would seem slow.
            two_steps = batch.setting.model_copy(update={"steps": 2})
            draw(model.pipe, replace(batch, setting=two_steps, pairs=batch.pairs[:1]), self.conditions)
            self._loaded = batch.model, model
        return self._loaded[1]


def draw(pipe: Any, batch: Batch, conditions: Conditions) -> list[list[Image]]:
    """Draw the images of a batch, each as a list of frames; a still image is one frame.

    An image starts from noise that depends on its pair and seed only, so all settings are compared on the same noise.

    Raises:
        RequestError: The pipeline refuses the setting, or the GPU's memory is too small.
        VsfError: The pipeline cannot be guided this way.
    """
    setting = batch.setting
    method = setting.guidance()
    prompts = [pair.prompt for pair in batch.pairs]
    negatives = [pair.negative for pair in batch.pairs]
    generators = []
    for pair in batch.pairs:
        # On the CPU, because its random numbers are the same on every machine; a GPU's depend on its kind.
        generators.append(torch.Generator().manual_seed(noise_seed(pair.id, batch.seed)))
    arguments: dict[str, Any] = {
        "prompt": prompts,
        "num_inference_steps": setting.steps,
        "guidance_scale": setting.guidance_scale,
        "generator": generators,
    }
    if conditions.size is not None:
        arguments["width"], arguments["height"] = conditions.size
    if conditions.frames is not None:
        arguments |= {"num_frames": conditions.frames, "output_type": "pil"}
    within = list(map(belonging, prompts)) if setting.within == "subject" else None
    if setting.negative == "pipeline":
        arguments["negative_prompt"] = negatives
        negatives = [""] * len(negatives)
    try:
        guided_away_from = negative_arguments(method, pipe, negatives)
        with guide(pipe, **guided_away_from, within=within, method=method, schedule=setting.when()):
            output = pipe(**arguments)
    except VsfError:
        raise  # some of these are ValueErrors or TypeErrors, too
    except (ValueError, TypeError) as error:
        raise RequestError(f'the pipeline refuses the setting "{setting.label}": {error}') from error
    except torch.OutOfMemoryError as error:
        raise RequestError("the GPU's memory is too small: ask for a smaller --batch or --size.") from error
    if conditions.frames is None:
        return [[image] for image in output.images]
    return list(map(_frames_to_judge, output.frames))


def noise_seed(pair: str, seed: int) -> int:
    """Derive the seed of an image's noise: different for each pair, the same for every setting."""
    return int.from_bytes(hashlib.sha256(f"{seed} {pair}".encode()).digest()[:6])


def png(frames: Sequence[Image]) -> bytes:
    """Encode as PNG, without loss; several frames become an animated PNG."""
    stream = io.BytesIO()
    animation = {"save_all": True, "append_images": list(frames[1:])} if len(frames) > 1 else {}
    frames[0].save(stream, format="PNG", **animation)
    return stream.getvalue()


def peak_memory() -> int | None:
    """Return the peak memory in bytes: the GPU's since its last reset, or else this process's; None on Windows."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    try:
        import resource
    except ModuleNotFoundError:
        return None
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024  # bytes on macOS, kibibytes elsewhere


def identify(model: str) -> tuple[str, str]:
    """Pin a model: return a name that cannot change its meaning, and the commit or hash of its weights.

    Raises:
        RequestError: There is no such model.
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


def public_name(model: str) -> str:
    """Name a model in rows and manifest: a folder or file by its own name, without the path to it."""
    path = Path(model).expanduser()
    return path.name if path.exists() else model


def _silence_libraries() -> None:
    """Keep the progress bars and advice of diffusers and transformers out of the run's own progress."""
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()


def _commit(hub_id: str, revision: str | None) -> str:
    """Find the commit of a revision on the hub, or in the local cache of it. Raises RequestError."""
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(hub_id, "model_index.json", revision=revision)).parent.name
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise RequestError(f'cannot find "{hub_id}" on the hub: {reason}') from error


def _frames_to_judge(frames: Sequence[Image]) -> list[Image]:
    """Pick evenly spaced frames of a clip, the first and the last among them."""
    count = min(FRAMES_KEPT, len(frames))
    spacing = (len(frames) - 1) / max(1, count - 1)
    return [frames[round(index * spacing)] for index in range(count)]
