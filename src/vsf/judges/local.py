"""A vision-language model on this machine, by way of transformers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from vsf.errors import RequestError
from vsf.generation.models import hash_folder, usable_device
from vsf.judges import wording
from vsf.judges.base import Case, Verdict

LONGEST_ANSWER = 256  # tokens


@dataclass
class LocalJudge:
    """Asks in the same words as the judge behind a network; the model is loaded by the worker that asks first.

    model: a folder or a hub id that is in the local cache or can be fetched. Weights come from safetensors alone, and
    no code that travels with a model is run. device: cpu, cuda, cuda:N, mps or auto, of the worker that asks.
    """

    model: str
    device: str = "auto"
    batch = 1
    waits = False
    _loaded: tuple[Any, Any] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        path = Path(self.model)
        self.name = f"local:{path.name if path.is_dir() else self.model}"
        self.version = f"{wording.VERSION}+{hash_folder(path)[:12]}" if path.is_dir() else wording.VERSION

    def __call__(self, cases: Sequence[Case]) -> list[Verdict]:
        """Ask about each image; an answer that is not as asked for is unscored.

        Raises:
            RequestError: the model cannot be loaded, does not fit the device, or takes no images.
        """
        try:
            return [self._ask(case) for case in cases]
        except torch.OutOfMemoryError as error:
            raise RequestError(f'"{self.model}" is too large for this device: ask a smaller judge.') from error

    @torch.inference_mode()
    def _ask(self, case: Case) -> Verdict:
        processor, model = self._models()
        content = [{"type": "image", "image": case.image()}, {"type": "text", "text": wording.task(case)}]
        inputs = self._inputs(processor, [{"role": "user", "content": content}]).to(model.device)
        written = model.generate(**inputs, max_new_tokens=LONGEST_ANSWER, do_sample=False)[0]
        answer = processor.decode(written[inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return wording.verdict(answer, tokens=len(written))

    def _inputs(self, processor: Any, messages: list[dict[str, Any]]) -> Any:
        """The tokens and pixels of a question."""
        settings = {"add_generation_prompt": True, "tokenize": True, "return_dict": True, "return_tensors": "pt"}
        try:
            return processor.apply_chat_template(messages, **settings)
        except (ValueError, TypeError, AttributeError) as error:
            raise RequestError(f'"{self.model}" cannot be asked about an image: {_first_line(error)}') from error

    def _models(self) -> tuple[Any, Any]:
        if self._loaded is None:
            from transformers import AutoModelForImageTextToText, AutoProcessor
            from transformers.utils import logging

            logging.disable_progress_bar()
            device = usable_device(self.device)
            try:
                processor = AutoProcessor.from_pretrained(self.model, trust_remote_code=False)
                model = AutoModelForImageTextToText.from_pretrained(
                    self.model, dtype="auto", use_safetensors=True, trust_remote_code=False
                )
            except (OSError, ValueError, ImportError) as error:
                raise RequestError(f'cannot load the judge "{self.model}": {_first_line(error)}') from error
            self._loaded = processor, model.to(device).eval()
        return self._loaded


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
