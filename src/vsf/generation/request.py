"""A request: one frozen, validated description of a run.

Whatever needs torch (methods, families, regions) is imported on use, after every check that needs no torch.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsf.controls.schedule import Schedule
from vsf.errors import RequestError
from vsf.generation.pictures import open_mask
from vsf.text.prompt import Prompt

if TYPE_CHECKING:
    from vsf.guidance import Guidance

DTYPES = ("auto", "float32", "float16", "bfloat16")
SHORT_DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
OFFLOADS = ("none", "model", "sequential")
DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")
LARGEST_SEED = 2**63 - 1
SUBJECT = "subject"
SCHEDULE = tuple(field.name for field in fields(Schedule))

Arguments = Mapping[str, Any]
"""Arguments of `Request` by name, not checked yet."""


@dataclass(frozen=True)
class Lora:
    """A LoRA file in safetensors and its weight; None stands for 1.

    Args:
        file: the file; text is taken as a path.
        weight: how strongly it acts.

    Raises:
        RequestError: the file does not exist or is not safetensors, or the weight is not a finite number.
    """

    file: Path
    weight: float | None = None

    def __post_init__(self) -> None:
        _as_path(self, "file")
        if self.file.suffix != ".safetensors":
            raise RequestError(f'a LoRA has to be a .safetensors file, got "{self.file}".')
        # Path.is_file() raises for a name that is too long; here and below.
        if not os.path.isfile(self.file):
            raise RequestError(f'there is no LoRA file "{self.file}".')
        is_number = isinstance(self.weight, int | float) and not isinstance(self.weight, bool)
        if self.weight is not None and not (is_number and math.isfinite(self.weight)):
            raise RequestError(f"the weight of a LoRA has to be a finite number, got {self.weight!r}.")


@dataclass(frozen=True)
class Request:
    """Everything that decides the pixels, and where to compute them.

    The defaults suit few-step models: eight steps, no classifier-free guidance. Two requests are equal if their prompts
    mean the same, however they are spelled.

    Args:
        prompt: a `vsf.Prompt`, or text in its inline spelling: `(red:1.3)` weighs a word, `(wheels:-1)` is a negative.
        negative: plain text, or several texts with their weights; added to the negatives of the prompt.
        within: the context of the negatives, as `vsf.guide` takes it, or "subject" for the subject of the prompt.
        method: name of the guidance method.
        knobs: settings of the method by name.
        preset: a preset of the model's family, which sets the knobs of the method that `knobs` does not.
        schedule: a `vsf.Schedule` or its fields by name.
        mask: where in the picture the negatives act: a picture file, white where they do, or a box (left, top, right,
            bottom) in fractions of width and height.
        seconds: when in a clip they act, (start, stop) in seconds of the file, whose frames are 1/16 of a second; None
            for either leaves it open.
        frame_range: the same in frames, counted from 0, the last one not included.
        negative_sound: negatives of the sound, given like `negative`, which then is for the picture alone; None where
            all are for both.
        sound_strength: how strongly they act in the sound, as a factor, 0 to 1.
        model: an embedded model, a diffusers folder, a .safetensors checkpoint or a hub id (id@revision).
        steps: denoising steps.
        guidance_scale: the pipeline's own classifier-free guidance; up to 1 is off.
        seed: seed of the first image; image i of `count` is drawn from `seed + i`, whatever the count.
        count: number of images.
        size: (width, height) in pixels; None leaves it to the model.
        frames: length of a clip, for models that draw clips.
        loras: LoRAs to load onto the model.
        image: a picture to start from instead of noise (text is taken as a path); the first frame of a clip.
        strength: how much of `image` to redraw, 0 to 1; ignored for clips.
        dtype: one of `DTYPES`, or short as in `SHORT_DTYPES`.
        device: cpu, cuda, cuda:N, mps or auto.
        offload: one of `OFFLOADS`.

    Attributes:
        wanted: the prompt with the negatives of both fields, parsed once.

    Raises:
        RequestError: a field is of the wrong type or out of its range.
        PromptError: the prompt is misspelt, or a weight is not allowed.
        UnknownNameError, KnobError: no such method, preset or knob, or a value out of its range.
    """

    prompt: str | Prompt = field(compare=False)
    negative: str | Mapping[str, float] = ""
    within: str = ""
    method: str = "vsf"
    knobs: Mapping[str, Any] = field(default_factory=dict)
    preset: str | None = None
    schedule: Schedule | Mapping[str, Any] = field(default_factory=Schedule)
    mask: Path | tuple[float, float, float, float] | None = None
    seconds: tuple[float | None, float | None] | None = None
    frame_range: tuple[int | None, int | None] | None = None
    negative_sound: str | Mapping[str, float] | None = None
    sound_strength: float = 1.0
    model: str = "tiny"
    steps: int = 8
    guidance_scale: float = 0.0
    seed: int = 0
    count: int = 1
    size: tuple[int, int] | None = None
    frames: int | None = None
    loras: tuple[Lora, ...] = ()
    image: Path | None = None
    strength: float = 0.6
    dtype: str = "auto"
    device: str = "auto"
    offload: str = "none"
    wanted: Prompt = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._check_prompts()
        for name in ("method", "model", "device"):
            _check_text(name, getattr(self, name))
        if not self.model.strip():
            raise RequestError("no model given.")
        _check_whole_number("steps", self.steps, 1, 1000)
        _check_whole_number("count", self.count, 1, 10_000)
        _check_whole_number("seed", self.seed, 0, LARGEST_SEED - self.count)
        _check_number("guidance_scale", self.guidance_scale, 0.0, 100.0)
        _check_number("strength", self.strength, 0.0, 1.0)
        object.__setattr__(self, "dtype", full_dtype(self.dtype))
        if self.offload not in OFFLOADS:
            raise RequestError(f"offload has to be one of {', '.join(OFFLOADS)}, got {self.offload!r}.")
        if not DEVICE.fullmatch(self.device):
            raise RequestError(f'device has to be cpu, cuda, cuda:N, mps or auto, got "{self.device}".')
        if self.frames is not None:
            _check_whole_number("frames", self.frames, 1, 10_000)
        self._check_size()
        self._check_loras()
        self._check_image()
        if not (isinstance(self.knobs, Mapping) and all(isinstance(name, str) for name in self.knobs)):
            raise RequestError(f"knobs has to map names to values, such as {{'scale': 2.0}}, got {self.knobs!r}.")
        self._check_schedule()
        self._check_host_negative()
        self._check_mask()
        self._check_clip()
        self._check_method()  # last: it imports torch

    def _check_prompts(self) -> None:
        if not isinstance(self.prompt, str | Prompt):
            raise RequestError(f"prompt has to be text, got {self.prompt!r}.")
        if not isinstance(self.negative, str | Mapping):
            raise RequestError(f"negative has to be text, or texts with their weights, got {self.negative!r}.")
        negatives = {self.negative: 1.0} if isinstance(self.negative, str) else self.negative
        object.__setattr__(self, "wanted", _with_negatives(self.prompt, negatives))
        if not self.wanted.positive.strip():
            raise RequestError("the prompt is empty; say what to draw.")
        _check_text("within", self.within)

    def _check_method(self) -> None:
        from vsf.controls.region import Region
        from vsf.families.catalogue import presets

        self.guidance()
        if self.preset is not None:
            presets.NAMES[self.preset]  # raises for an unknown name
        if isinstance(self.mask, tuple):
            object.__setattr__(self, "mask", Region(self.mask).mask)
        Region(frames=self.frame_range, seconds=self.seconds)  # raises for a range that is none
        _ = self.context  # raises if the prompt has no subject

    def _check_schedule(self) -> None:
        if isinstance(self.schedule, Mapping):
            for name in self.schedule:
                if name not in SCHEDULE:
                    raise RequestError(f"a schedule has {', '.join(SCHEDULE)}, and no {name!r}.")
            object.__setattr__(self, "schedule", Schedule(**self.schedule))
        if not isinstance(self.schedule, Schedule):
            raise RequestError(f"schedule has to be a vsf.Schedule, got {self.schedule!r}.")

    def _check_mask(self) -> None:
        if isinstance(self.mask, tuple | list):
            object.__setattr__(self, "mask", tuple(self.mask))
        elif self.mask is not None:
            _as_path(self, "mask")
            if not os.path.isfile(self.mask):
                raise RequestError(f'there is no mask file "{self.mask}".')
            open_mask(self.mask)

    def _check_clip(self) -> None:
        """Check what only clips have: times, and sound."""
        if self.frames is None and (self.seconds is not None or self.frame_range is not None):
            raise RequestError("only a clip has times; say how long it is with --frames, or leave them out.")
        _check_number("sound_strength", self.sound_strength, 0.0, 1.0)
        if self.negative_sound is None:
            return
        if not isinstance(self.negative_sound, str | Mapping):
            raise RequestError(f"negative_sound has to be text, or texts with weights, got {self.negative_sound!r}.")
        if self.method == "none":
            raise RequestError("the method none guides no sound; choose a method, or leave negative_sound out.")

    def _check_size(self) -> None:
        if self.size is None:
            return
        if not isinstance(self.size, tuple | list) or len(self.size) != 2:
            raise RequestError(f"size has to be a width and a height, got {self.size!r}.")
        for name, value in zip(("width", "height"), self.size, strict=True):
            _check_whole_number(name, value, 1, 16384)
        object.__setattr__(self, "size", tuple(self.size))

    def _check_loras(self) -> None:
        if not (isinstance(self.loras, tuple | list) and all(isinstance(lora, Lora) for lora in self.loras)):
            raise RequestError(f"loras has to hold vsf.generation.Lora entries, got {self.loras!r}.")
        object.__setattr__(self, "loras", tuple(self.loras))

    def _check_image(self) -> None:
        if self.image is None:
            return
        _as_path(self, "image")
        if not os.path.isfile(self.image):
            raise RequestError(f'there is no image file "{self.image}".')
        if self.frames is None and int(self.steps * self.strength) < 1:
            raise RequestError(f"strength {self.strength} of {self.steps} steps leaves no step to run; raise either.")

    @property
    def context(self) -> str | None:
        """The context of the negatives, with {} where they go; None without one.

        Raises:
            PromptError: `within` is invalid, or "subject" of a prompt that has none.
        """
        from vsf.text.context import belonging, contexts

        if self.within == SUBJECT:
            return belonging(self.wanted.positive)
        return contexts(self.within or None, 1)[0]

    @property
    def host_negative(self) -> str:
        """The pipeline's own negative prompt: set for the method none under classifier-free guidance, else ""."""
        if self.method != "none" or self.guidance_scale <= 1:
            return ""
        return ", ".join(self.wanted.negatives)

    def _check_host_negative(self) -> None:
        if self.host_negative and set(self.wanted.negatives.values()) != {1.0}:
            raise RequestError(
                "the pipeline's own negative prompt, which the method none leaves to it, knows no weights; "
                "leave them out, or choose a method."
            )
        if self.host_negative and self.within:
            raise RequestError("within is for methods; the pipeline's own negative prompt, with none, has no context.")

    def guidance(self) -> Guidance:
        """Return the guidance method with its knobs set; the knobs of a preset only after `with_preset`."""
        return self._guidance

    @cached_property
    def _guidance(self) -> Guidance:
        from vsf import guidance

        return guidance.method(self.method, **self.knobs)

    def with_preset(self, owner: str) -> Request:
        """Return this request with the knobs of its preset filled in.

        Args:
            owner: the family or embedded model whose preset it is.

        Raises:
            UnknownNameError: the owner has no such preset for the method.
        """
        from vsf.families.catalogue import presets

        if self.preset is None:
            return self
        preset = presets.find(owner, self.method, self.preset)
        return replace(self, preset=None, knobs={**preset.knobs, **self.knobs})


def full_dtype(name: object) -> str:
    """Return torch's name of a dtype, which may be given short: fp16 for float16.

    Raises:
        RequestError: no dtype of that name is supported.
    """
    full = SHORT_DTYPES.get(name, name) if isinstance(name, str) else name
    if full not in DTYPES:
        raise RequestError(f"dtype has to be one of {', '.join([*DTYPES, *SHORT_DTYPES])}, got {name!r}.")
    return str(full)


def _with_negatives(prompt: str | Prompt, negatives: Mapping[str, float]) -> Prompt:
    """Parse a prompt unless it is parsed already, and add further negatives to its own."""
    if isinstance(prompt, str):
        return Prompt.parse(prompt, negatives)
    weights = dict(prompt.negatives)
    for text, weight in Prompt("", negatives).negatives.items():
        weights[text] = weights.get(text, 0.0) + weight
    return replace(prompt, negatives=weights)


def _as_path(owner: object, name: str) -> None:
    """Turn a field of a frozen dataclass from text into a Path."""
    value = getattr(owner, name)
    if not isinstance(value, str | os.PathLike):
        raise RequestError(f"{name} has to be a path, got {value!r}.")
    object.__setattr__(owner, name, Path(value))


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise RequestError(f"{name} has to be text, got {value!r}.")


def _check_whole_number(name: str, value: object, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise RequestError(f"{name} has to be a whole number from {low} to {high}, got {value!r}.")


def _check_number(name: str, value: object, low: float, high: float) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
        raise RequestError(f"{name} has to be a number from {low:g} to {high:g}, got {value!r}.")
