"""Which batch row of a denoiser call stands for a positive prompt, and for which of the pipeline's prompts."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from vsf.errors import LayoutError
from vsf.families.base.family import Family, class_names, halves


class CfgRows:
    """The rows of the denoiser calls of one pipeline call, or of a denoiser on its own.

    Which prompt a row belongs to is read off the denoiser call itself, because pipelines differ in what they make of
    `num_images_per_prompt`: some ignore it, some loop over the prompts, and video models stack frames.
    """

    def __init__(self, family: Family, pipe: Any, arguments: Mapping[str, Any] | None = None) -> None:
        """arguments: what the pipeline is called with; None for a denoiser on its own."""
        self._family, self._pipe = family, pipe
        prompts = None if arguments is None else _prompts(arguments)
        self.prompts = None if prompts is None else len(prompts)
        self._given = [] if prompts is None else list(prompts)
        copies = [] if arguments is None else [arguments.get(f"num_{what}_per_prompt") for what in ("images", "videos")]
        self._pictures = (self.prompts or 0) * next((number for number in copies if number), 1)
        self._texts: list[Tensor] = []
        self._latest: tuple[list[Tensor], list[int]] | None = None

    @property
    def takes_turns(self) -> bool:
        """Whether positive and negative prompts have calls of their own, as in all modular pipelines, not one batch."""
        return self._family.guidance == "calls" or "ModularPipeline" in class_names(self._pipe)

    @property
    def splits_calls(self) -> bool:
        """Whether the pipeline may call the denoiser for its positive prompt and once more without it."""
        return self._pipe is not None and getattr(self._pipe, "do_classifier_free_guidance", True)

    def conditional(self, arguments: Mapping[str, Any]) -> list[bool]:
        """Tell for each row of a denoiser call whether it stands for a positive prompt. Raises LayoutError.

        Pipelines that do not say whether they use classifier-free guidance stack twice as many rows as pictures if so.
        """
        rows = self._family.conditional_rows(self._pipe, arguments)
        told = self._pipe is None or hasattr(type(self._pipe), "do_classifier_free_guidance")
        if told or self.takes_turns or len(rows) != 2 * self._pictures:
            return rows
        return halves(len(rows), first=self._family.guidance == "batch, conditional first")

    def owners(self, arguments: Mapping[str, Any], conditional: Sequence[bool], entries: int) -> list[int | None]:
        """Tell for each row of a denoiser call which of so many entries, one or one per prompt, belongs to it.

        None for rows that are not conditional. Raises LayoutError where it cannot be told.
        """
        live = sum(conditional)
        if entries == 1:
            prompts = iter([0] * live)
        elif self.prompts is None:
            prompts = iter(_in_order(live, entries, entries))
        else:
            texts = self._family.texts_of(arguments)
            prompts = iter(self._prompts_of([text for text, row in zip(texts, conditional, strict=True) if row]))
        return [next(prompts) if row else None for row in conditional]

    def _prompts_of(self, texts: list[Tensor]) -> list[int]:
        """Return the prompt of each conditional row, from its text; comparing texts waits for the device."""
        if self._latest is None or not _are(texts, self._latest[0]):
            self._latest = (texts, self._told_apart(texts))
        return self._latest[1]

    def _told_apart(self, texts: list[Tensor]) -> list[int]:
        prompts, rows = self.prompts or 1, len(texts)
        if not _all_differ(self._given):
            return _in_order(rows, prompts, self._pictures)
        here: list[Tensor] = []
        numbers = _numbered(texts, here)
        if len(here) == prompts:
            return numbers
        if len(here) > prompts:  # rows of one prompt that differ in the last bits
            return _in_order(rows, prompts, self._pictures)
        numbers = _numbered(texts, self._texts)
        if len(self._texts) > prompts:
            raise _untold(rows, prompts)
        return numbers


def _prompts(arguments: Mapping[str, Any]) -> Sequence[Any]:
    """Return the prompts of a pipeline call, or their embeddings; {frame: text}, of FreeNoise, is one prompt."""
    prompt = arguments.get("prompt")
    if prompt is None:
        given = [value for name, value in arguments.items() if _holds_embeddings(name) and value is not None]
        return given[0] if given else [None]
    return [prompt] if isinstance(prompt, str | Mapping) else prompt


def _holds_embeddings(name: str) -> bool:
    """Whether an argument has one row of embeddings for each prompt; HiDream's Llama has its layers in front."""
    return name.startswith("prompt_embeds") and not name.endswith(("mask", "llama3"))


def _all_differ(prompts: list[Any]) -> bool:
    if all(isinstance(prompt, Tensor) for prompt in prompts):
        return len(prompts) == 1 + max(_numbered(prompts, []))
    return len(prompts) == len({str(prompt) for prompt in prompts})


def _numbered(texts: Sequence[Tensor], known: list[Tensor]) -> list[int]:
    """Return the place of each text among those known, to which new ones are added."""
    numbers = []
    for text in texts:
        number = next((at for at, other in enumerate(known) if _equal(text, other)), len(known))
        if number == len(known):
            known.append(text)
        numbers.append(number)
    return numbers


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other)


def _are(texts: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    """Whether these are the very same texts, in the same memory."""
    pairs = zip(texts, others, strict=False)
    return len(texts) == len(others) and all(
        one.shape == other.shape and one.data_ptr() == other.data_ptr() and _version(one) == _version(other)
        for one, other in pairs
    )


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version


def _in_order(rows: int, prompts: int, pictures: int) -> list[int]:
    """Give each prompt the same number of neighbouring rows. Raises LayoutError when they do not divide."""
    if not rows or rows % pictures:
        raise _untold(rows, prompts)
    return [row * prompts // rows for row in range(rows)]


def _untold(rows: int, prompts: int) -> LayoutError:
    return LayoutError(
        f"{rows} conditional rows cannot be told apart by the {prompts} prompts or negatives they belong to: call the "
        "pipeline once for each prompt, or give one negative for all"
    )
