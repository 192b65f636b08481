"""Classifier-free guidance in two denoiser calls: which of them stands for the positive prompt."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

_TIMES = ("timestep", "timesteps", "t")
"""What denoisers call the argument that tells the step."""


class Branches:
    """Follows the calls of one denoiser through a run.

    Pipelines that name their calls (`cache_context`: "uncond", under a guider "pred_uncond") are believed. The others
    make the conditional call first, so that the unconditional one is the second call at the same time with another
    text.
    """

    def __init__(self) -> None:
        self._named: str | None = None
        self._conditional: tuple[Tensor, Tensor] | None = None

    def begin(self) -> None:
        """Forget the calls of an earlier run."""
        self._conditional = None

    @contextmanager
    def cache_context(self, original: Callable[..., Any], denoiser: object, name: str, **step: Any) -> Iterator[None]:
        """Stand in for the denoiser's own `cache_context`, listening to the name."""
        before, self._named = self._named, name
        try:
            with original(denoiser, name, **step):
                yield
        finally:
            self._named = before

    def is_unconditional(self, arguments: Mapping[str, Any], text: Tensor) -> bool:
        """Tell whether a call with these arguments and this text is the one without the positive prompt."""
        if self._named is not None:
            return "uncond" in self._named
        now = next(arguments[name] for name in _TIMES if name in arguments)
        now = now if isinstance(now, Tensor) else torch.as_tensor(now)
        if self._conditional is not None:
            then, positive = self._conditional
            if torch.equal(then, now) and not _same(positive, text):
                return True
        self._conditional = (now, text)
        return False


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether the two are one tensor, or views that begin at one place."""
    return one.shape == other.shape and one.data_ptr() == other.data_ptr()
