"""What every family has to show, and how one is described: a `Case` for its denoiser, a `PipelineCase` for a pipeline.

Every file models/tiny_*.py has lists CASES and PIPELINES, and VARIANTS for the expensive rest; the tests in
test_every_family.py run over all of them.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import vsf
from support.lockstep_oracle import Lockstep, Order, Side

STRONG = vsf.ValueSignFlip(scale=2.0, offset=0.1)
OFF = vsf.ValueSignFlip(offset=float("inf"))
NEGATIVE = 7  # tokens of the negatives that the tests make


@dataclass(frozen=True)
class Case:
    """One denoiser.

    family: its name in the registry. name: of the case, where a family has several.
    model: makes it, small and random, the same every time.
    inputs: its arguments for texts (rows, tokens, channels), with the same picture in every row. It is called for the
        negative alone too, where the oracle runs the stock model on it.
    channels: of the text, as `Family.text_of` has it.
    layers: pattern of an attention layer's name -> order of its tokens, stated independently of the family's roles:
        ("image", "text"), ("text", "image"), (("shared", 8), "text", "image"), or lockstep_oracle.CROSS.
    grid: shape of the heat map: (height, width), or (frames, height, width). Sides of different length tell them apart.
        None where masks and heat maps are refused.
    alone: whether all image tokens are the picture's, or sound; a mask leaves those of references unguided.
    positive: text tokens of the positive prompt. negative: of the negative one, where a model allows one length only.
    attended: how many tokens a text of so many tokens has in the attention.
    tolerance: relative, between guided and oracle.
    """

    family: str
    model: Callable[[], nn.Module]
    inputs: Callable[[Tensor], dict[str, Any]]
    channels: int
    layers: Mapping[str, Order]
    grid: tuple[int, ...] | None
    name: str = ""
    alone: bool = True
    positive: int = 12
    negative: int = NEGATIVE
    attended: Callable[[int], int] = lambda tokens: tokens
    tolerance: float = 1e-6

    def __str__(self) -> str:
        return self.name or self.family

    def text(self, tokens: int | None = None, seed: int = 0, rows: int = 1) -> Tensor:
        """Random texts (rows, tokens, channels)."""
        size = (rows, self.positive if tokens is None else tokens, self.channels)
        return torch.randn(size, generator=torch.Generator().manual_seed(seed))

    def run(self, model: nn.Module, text: Tensor) -> Tensor:
        """Call the denoiser, and return all its outputs as one tensor (rows, numbers)."""
        with torch.no_grad():
            out = model(**self.inputs(text), return_dict=False)
        return torch.cat([each.flatten(1) for each in _outputs(out, len(text))], 1)

    def oracle(self, text: Tensor, negative: Tensor, method: vsf.ValueSignFlip) -> Tensor:
        """What the guided denoiser should return, from two stock models in lockstep."""
        model = self.model()
        twin = copy.deepcopy(model)
        lockstep = Lockstep(self.layers, scale=method.scale, offset=method.offset)
        return lockstep.run(
            Side(model, lambda: self.run(model, text), self.attended(text.shape[1])),
            Side(twin, lambda: self.run(twin, negative), self.attended(negative.shape[1])),
        )


@dataclass(frozen=True)
class PipelineCase:
    """One whole pipeline.

    build: makes it from tiny random parts. settings: arguments of its call, small enough for a test; the result is
        its first output. Give output_type="latent" and two steps.
    text: (pipe, text) -> (tokens, channels): the encoders called on the real tokens of one prompt alone, without the
        pipeline's own functions. special: which tokens of the text "ab" are begin and end marks.
    encoders: components that hold the text encoders. denoiser: component that is guided.
    latents: shape of one image's latents as the pipeline's `latents=` takes them, without the batch; None where it
        takes none, and batches are not compared.
    cfg: settings that turn classifier-free guidance on; None where the pipeline has none.
    unconditional: under it, which rows of a step's denoiser calls, one call after the other, stay unguided.
    copies: name of the argument that asks for several images of a prompt, "" where there is none that works.
    prompts: two, of different length where the stock pipeline treats rows of a batch as it treats them alone.
    knows_characters: whether the family tells which characters a token stands for, as `within=` needs.
    compiles_once: whether compiled code serves negatives of every length; parts that are overridden are compiled anew.
    """

    name: str
    build: Callable[[], Any]
    settings: Mapping[str, Any]
    text: Callable[[Any, str], Tensor]
    special: list[bool]
    encoders: tuple[str, ...] = ("text_encoder",)
    denoiser: str = "transformer"
    latents: tuple[int, ...] | None = None
    cfg: Mapping[str, Any] | None = None
    unconditional: tuple[bool, ...] = (False, True)
    copies: str = "num_images_per_prompt"
    prompts: tuple[str, str] = ("a red car", "two dogs")
    knows_characters: bool = True
    compiles_once: bool = True

    def __str__(self) -> str:
        return self.name

    def run(self, pipe: Any, prompt: Any = "a red car", seed: int = 0, **settings: Any) -> Tensor:
        return call(pipe, prompt, seed, **{**self.settings, **settings})


@dataclass(frozen=True)
class Variant:
    """Another pipeline class of a family, or the same with more settings: only run plain, off and guided."""

    name: str
    build: Callable[[], Any]
    settings: Mapping[str, Any]
    prompt: str = "a red car"

    def __str__(self) -> str:
        return self.name


def call(pipe: Any, prompt: Any, seed: int = 0, **settings: Any) -> Tensor:
    """Run a pipeline on random numbers of its own, and return its first output as a tensor (rows, numbers).

    Of a modular pipeline that is what `output` names.
    """
    torch.manual_seed(seed)  # some pipelines draw from here what they do not draw from the generator
    out = pipe(prompt=prompt, generator=torch.Generator().manual_seed(seed), **settings)
    if isinstance(out, tuple):
        out = out[0]
    elif not isinstance(out, torch.Tensor):
        out = next(iter(out.values()))
    return torch.cat([each.flatten(1) for each in _outputs(out, None)], 1)


class DenoiserRows:
    """Collects the outputs of a pipeline's denoiser, row by row."""

    def __init__(self, module: nn.Module) -> None:
        self.rows: list[Tensor] = []
        module.register_forward_hook(self)

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        found = output if isinstance(output, tuple | list) else tuple(output.values())
        rows = torch.cat([each.flatten(1) for each in _outputs(found, None)], 1)
        self.rows += list(rows.clone())


def noise(*shape: int, seed: int = 1) -> Tensor:
    """Random numbers, the same every time."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def picture(height: int, width: int) -> Tensor:
    """A random picture (1, 3, height, width), the same every time."""
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(1))


def quiet(pipe: Any) -> Any:
    """The pipeline without progress bars."""
    pipe.set_progress_bar_config(disable=True)
    return pipe


def difference(one: Tensor, other: Tensor) -> float:
    """Largest difference, relative to the largest number."""
    return float((one - other).abs().max() / other.abs().max())


def registered(what: str) -> list[Any]:
    """All entries of the lists called `what` in the tiny_*.py files."""
    files = sorted(Path(__file__).parent.joinpath("models").glob("tiny_*.py"))
    return [entry for file in files for entry in getattr(import_module(f"families.models.{file.stem}"), what, [])]


def _outputs(found: Any, rows: int | None) -> Iterator[Tensor]:
    """Yield the tensors of an output; a list of one tensor per row counts as one tensor."""
    if isinstance(found, Tensor):
        yield found
    elif isinstance(found, list) and (rows is None or len(found) == rows) and _alike(found):
        yield torch.stack(found)
    elif isinstance(found, tuple | list):  # not, for one, keys that a denoiser keeps for its next call
        for each in found:
            yield from _outputs(each, rows)


def _alike(found: list[Any]) -> bool:
    return all(isinstance(each, Tensor) for each in found) and len({each.shape for each in found}) == 1
