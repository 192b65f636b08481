"""Tells which batch rows of a denoiser call stand for a positive prompt, and for which of the pipeline's prompts."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from vsf.errors import LayoutError
from vsf.families.base.family import Family, class_names, halves
from vsf.patching.hosts import CallArguments, Pipeline


class CfgRows:
    """The batch rows in the denoiser calls of one pipeline call, or of a denoiser on its own.

    The prompt that a row belongs to is read off the denoiser call itself, because pipelines treat
    `num_images_per_prompt` differently: some ignore it, some loop over the prompts, and video models stack frames.

    Attributes:
        prompts: how many prompts the pipeline is called with; None for a denoiser on its own.
    """

    def __init__(self, family: Family, pipe: Pipeline | None, arguments: CallArguments | None = None) -> None:
        """Take a pipeline call.

        Args:
            family: the model architecture.
            pipe: the pipeline; None for a denoiser on its own.
            arguments: those of the pipeline call; None for a denoiser on its own.
        """
        self._family = family
        self._pipe = pipe
        self.prompts: int | None = None
        self._called_prompts: list[object] = []
        copies = 1
        if arguments is not None:
            self._called_prompts = list(_prompts(arguments))
            self.prompts = len(self._called_prompts)
            copies = arguments.get("num_images_per_prompt") or arguments.get("num_videos_per_prompt") or 1
        self._images = (self.prompts or 0) * copies
        self._distinct_texts: list[Tensor] = []
        self._latest: tuple[list[Tensor], list[int]] | None = None

    @property
    def takes_turns(self) -> bool:
        """True if positive and negative prompts have calls of their own, as in all modular pipelines, not one batch."""
        return self._family.guidance == "calls" or "ModularPipeline" in class_names(self._pipe)

    @property
    def splits_calls(self) -> bool:
        """True if the pipeline may call the denoiser for its positive prompt and once more without it."""
        return self._pipe is not None and getattr(self._pipe, "do_classifier_free_guidance", True)

    def conditional(self, arguments: CallArguments) -> list[bool]:
        """Tell for each row of a denoiser call whether it stands for a positive prompt. Raises LayoutError."""
        rows = self._family.conditional_rows(self._pipe, arguments)
        pipeline_tells = self._pipe is None or hasattr(type(self._pipe), "do_classifier_free_guidance")
        if pipeline_tells or self.takes_turns or len(rows) != 2 * self._images:
            return rows
        # A pipeline that does not say whether it uses classifier-free guidance stacks twice as many rows as images.
        return halves(len(rows), first=self._family.guidance == "batch, conditional first")

    def row_to_prompt(self, arguments: CallArguments, conditional: Sequence[bool], entries: int) -> list[int | None]:
        """Tell for each row of a denoiser call which entry belongs to it.

        Args:
            arguments: those of the denoiser call.
            conditional: for each row whether it stands for a positive prompt.
            entries: how many entries there are, negatives or token weights: one for all prompts, or one for each.

        Returns:
            The number of the entry, None for a row that is not conditional.

        Raises:
            LayoutError: it cannot be told.
        """
        live = sum(conditional)
        if entries == 1:
            numbers = [0] * live
        elif self.prompts is None:
            numbers = _in_order(live, entries, entries)
        else:
            live_texts = []
            for text, is_live in zip(self._family.texts_of(arguments), conditional, strict=True):
                if is_live:
                    live_texts.append(text)
            numbers = self._prompts_of(live_texts)
        row_to_prompt: list[int | None] = [None] * len(conditional)
        remaining = iter(numbers)
        for row, is_live in enumerate(conditional):
            if is_live:
                row_to_prompt[row] = next(remaining)
        return row_to_prompt

    def _prompts_of(self, texts: list[Tensor]) -> list[int]:
        """Return the prompt of each conditional row, given its text.

        Comparing texts waits for the device, so the answer of the latest call is kept for the same tensors.
        """
        if self._latest is None or not _are(texts, self._latest[0]):
            self._latest = (texts, self._compared(texts))
        return self._latest[1]

    def _compared(self, texts: list[Tensor]) -> list[int]:
        """Find the prompt of each text by comparing texts: rows with equal text belong to one prompt.

        Prompts are numbered as they first appear, which is the order in which pipelines go through them.
        """
        prompts = self.prompts or 1
        if not _all_differ(self._called_prompts):
            return _in_order(len(texts), prompts, self._images)
        distinct: list[Tensor] = []
        numbers = _numbered(texts, distinct)
        if len(distinct) == prompts:
            return numbers
        if len(distinct) > prompts:  # rows of one prompt that differ in the last bits
            return _in_order(len(texts), prompts, self._images)
        # Fewer texts than prompts: the pipeline loops over its prompts. Those of earlier calls count too.
        numbers = _numbered(texts, self._distinct_texts)
        if len(self._distinct_texts) > prompts:
            raise _cannot_tell(len(texts), prompts)
        return numbers


def _prompts(arguments: CallArguments) -> Sequence[Any]:
    """Return the prompts of a pipeline call, or their embeddings."""
    prompt = arguments.get("prompt")
    if prompt is None:
        for name, value in arguments.items():
            if _holds_embeddings(name) and value is not None:
                return value
        return [None]
    # {frame: text}, of FreeNoise, is one prompt.
    return [prompt] if isinstance(prompt, str | Mapping) else prompt


def _holds_embeddings(name: str) -> bool:
    """Tell whether an argument has one row of embeddings for each prompt; HiDream's Llama has its layers in front."""
    return name.startswith("prompt_embeds") and not name.endswith(("mask", "llama3"))


def _all_differ(prompts: Sequence[object]) -> bool:
    embeddings = [prompt for prompt in prompts if isinstance(prompt, Tensor)]
    if len(embeddings) == len(prompts):
        return len(embeddings) == 1 + max(_numbered(embeddings, []))
    return len(prompts) == len({str(prompt) for prompt in prompts})


def _numbered(texts: Sequence[Tensor], distinct: list[Tensor]) -> list[int]:
    """Return the position of each text in `distinct`, to which new ones are added."""
    numbers = []
    for text in texts:
        number = 0
        while number < len(distinct) and not _equal(text, distinct[number]):
            number += 1
        if number == len(distinct):
            distinct.append(text)
        numbers.append(number)
    return numbers


def _equal(first: Tensor, second: Tensor) -> bool:
    return first.shape == second.shape and torch.equal(first, second)


def _are(texts: Sequence[Tensor], earlier: Sequence[Tensor]) -> bool:
    """Tell whether these are the very same texts: in the same memory, and not written to since."""
    return len(texts) == len(earlier) and all(map(_is_same, texts, earlier))


def _is_same(text: Tensor, earlier: Tensor) -> bool:
    if text.shape != earlier.shape or text.data_ptr() != earlier.data_ptr():
        return False
    return _version(text) == _version(earlier)


def _version(tensor: Tensor) -> int:
    """Return how often a tensor was written to, 0 for tensors made under inference mode, which keep no count."""
    return 0 if tensor.is_inference() else tensor._version


def _in_order(rows: int, prompts: int, images: int) -> list[int]:
    """Give each prompt the same number of neighbouring rows. Raises LayoutError when they do not divide."""
    if not rows or rows % images:
        raise _cannot_tell(rows, prompts)
    return [row * prompts // rows for row in range(rows)]


def _cannot_tell(rows: int, prompts: int) -> LayoutError:
    return LayoutError(
        f"{rows} conditional rows cannot be told apart by the {prompts} prompts or negatives they belong to: call the "
        "pipeline once for each prompt, or give one negative for all"
    )
