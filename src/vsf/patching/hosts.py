"""The objects of diffusers that guidance is put onto, by the parts of them that it relies on."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from torch import nn


class Pipeline(Protocol):
    """A pipeline of diffusers, ordinary or modular.

    What only some pipelines have, such as `encode_prompt` or `do_classifier_free_guidance`, is not listed: code asks
    for it where it needs it.
    """

    @property
    def components(self) -> Mapping[str, Any]:
        """Models, tokenizers and scheduler by the names of their attributes; None for a part that was freed."""
        ...

    def set_progress_bar_config(self, **options: Any) -> None:
        """Set how the progress of a run is shown."""
        ...


class Denoiser(Protocol):
    """A model of diffusers that predicts the noise: an `nn.Module` with a config, never wrapped by torch.compile."""

    @property
    def config(self) -> Any:
        """The sizes that the model was made with, as attributes."""
        ...

    def modules(self) -> Iterator[nn.Module]:
        """Yield the model and all modules inside it."""
        ...

    def named_modules(self) -> Iterator[tuple[str, nn.Module]]:
        """Yield the same with their dotted names."""
        ...

    def get_submodule(self, target: str) -> nn.Module:
        """Return the module with this dotted name, the model itself for ""."""
        ...

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Predict the noise."""
        ...
