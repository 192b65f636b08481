"""The judges by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from vsf.errors import RequestError
from vsf.judges.base import Judge
from vsf.registry import Registry


@dataclass(frozen=True)
class Options:
    """What a judge may want to know; each takes what concerns it.

    model: of a language model. endpoint, key, prices, cache, timeout: see `OpenAIJudge`. device: for a model on this
    machine.
    """

    model: str | None = None
    endpoint: str | None = None
    key: str = field(default="", repr=False)
    prices: tuple[float, float] | None = None
    cache: Path | None = None
    timeout: float = 90.0
    device: str = "auto"


def _scenes(_options: Options) -> Judge:
    """Read the pictures of the embedded models, and of no other, on this machine."""
    from vsf.judges.scenes.embedded import ScenesJudge

    return ScenesJudge()


def _openai(options: Options) -> Judge:
    """Ask a vision-language model behind an endpoint that speaks OpenAI's protocol."""
    from vsf.judges.openai import OpenAIJudge

    return OpenAIJudge(
        _model(options), options.endpoint, options.key, options.prices, options.cache, timeout=options.timeout
    )


def _local(options: Options) -> Judge:
    """Ask a vision-language model on this machine, with transformers."""
    from vsf.judges.local import LocalJudge

    return LocalJudge(_model(options), options.device)


def _model(options: Options) -> str:
    if not options.model:
        raise RequestError("this judge is a language model: say which one with --judge-model.")
    return options.model


JUDGES: Registry[Callable[[Options], Judge]] = Registry(
    "judge", {"scenes": _scenes, "openai": _openai, "local": _local}
)
