"""A judge that runs a vision-language model on this machine, with transformers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from vsf.errors import RequestError
from vsf.generation.models import hash_folder, usable_device
from vsf.generation.request import DEVICE
from vsf.judges import wording
from vsf.judges.base import Case, Judge, LanguageModelOptions, Verdict
from vsf.options import option

LONGEST_ANSWER = 256  # tokens


@dataclass(frozen=True, kw_only=True)
class LocalOptions(LanguageModelOptions):
    """Ask a vision-language model on this machine, with transformers."""

    judge_device: str = option("Where a local judge computes: cpu, cuda, cuda:1, mps or auto.", default="auto")

    def __post_init__(self) -> None:
        if not DEVICE.fullmatch(self.judge_device):
            raise RequestError(f'--judge-device is cpu, cuda, cuda:N, mps or auto, got "{self.judge_device}".')

    def judge(self, cache: Path | None = None) -> Judge:  # noqa: ARG002 - asking again costs time, not money
        """Make the judge; the model is not loaded yet."""
        return LocalJudge(self.required_model(), self.judge_device)


@dataclass
class LocalJudge:
    """Asks the same question as `OpenAIJudge`. Each worker loads the model at its first case.

    Weights are read from safetensors only, and code that comes with a model is never run.

    Attributes:
        model: Folder, or hub id that is in the local cache or can be downloaded.
        device: cpu, cuda, cuda:N, mps or auto, as seen by the worker.
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
        """Ask about each image; an answer that does not follow the schema is unscored.

        Raises:
            RequestError: The model cannot be loaded, does not fit on the device, or accepts no images.
        """
        try:
            return [self._ask(case) for case in cases]
        except torch.OutOfMemoryError as error:
            raise RequestError(f'"{self.model}" is too large for this device: ask a smaller judge.') from error

    @torch.inference_mode()
    def _ask(self, case: Case) -> Verdict:
        processor, model = self._processor_and_model()
        content = [{"type": "image", "image": case.image()}, {"type": "text", "text": wording.task(case)}]
        inputs = self._inputs(processor, [{"role": "user", "content": content}]).to(model.device)
        # Without sampling, so that the same image gets the same verdict each time.
        tokens = model.generate(**inputs, max_new_tokens=LONGEST_ANSWER, do_sample=False)[0]
        # The output begins with the tokens of the question.
        answer = processor.decode(tokens[inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return wording.verdict(answer, tokens=len(tokens))

    def _inputs(self, processor: Any, messages: list[dict[str, Any]]) -> Any:
        """Turn a conversation into the model's tokens and pixels."""
        settings = {"add_generation_prompt": True, "tokenize": True, "return_dict": True, "return_tensors": "pt"}
        try:
            return processor.apply_chat_template(messages, **settings)
        except (ValueError, TypeError, AttributeError) as error:
            raise RequestError(f'"{self.model}" cannot be asked about an image: {_first_line(error)}') from error

    def _processor_and_model(self) -> tuple[Any, Any]:
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
