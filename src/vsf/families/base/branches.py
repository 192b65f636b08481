"""Tell the two denoiser calls of classifier-free guidance apart, where a pipeline makes two calls in a step."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from vsf.families.base.host import CallArguments, Original

_TIMES = ("timestep", "timesteps", "t")
"""Names of the denoisers' argument that tells the step."""


class Branches:
    """Follows the calls of one denoiser through a run.

    Pipelines that name their calls (`cache_context`: "uncond", under a guider "pred_uncond") are believed. The others
    make the conditional call first, so that the unconditional one is the second call at the same time with another
    text.
    """

    def __init__(self) -> None:
        self._call_name: str | None = None
        self._conditional: tuple[Tensor, Tensor] | None = None

    def begin(self) -> None:
        """Forget the calls of an earlier run."""
        self._conditional = None

    @contextmanager
    def cache_context(self, original: Original, denoiser: object, name: str, **step: Any) -> Iterator[None]:
        """Override the denoiser's own `cache_context`, and note the name."""
        outer_name = self._call_name
        self._call_name = name
        try:
            with original(denoiser, name, **step):
                yield
        finally:
            self._call_name = outer_name

    def is_unconditional(self, arguments: CallArguments, text: Tensor) -> bool:
        """Tell whether a call with these arguments and this text is the one without the positive prompt."""
        if self._call_name is not None:
            return "uncond" in self._call_name
        time = next(arguments[name] for name in _TIMES if name in arguments)
        time = torch.as_tensor(time)
        if self._conditional is not None:
            conditional_time, positive = self._conditional
            if torch.equal(conditional_time, time) and not _is_same_view(positive, text):
                return True
        self._conditional = (time, text)
        return False


def _is_same_view(text: Tensor, other: Tensor) -> bool:
    """Return whether two texts are one tensor, or views that begin at the same element."""
    return text.shape == other.shape and text.data_ptr() == other.data_ptr()
