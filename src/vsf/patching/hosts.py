"""Types for the objects of diffusers at the border: what guidance relies on of them."""

from collections.abc import Mapping
from typing import Any, Protocol

CallArguments = Mapping[str, Any]
"""The arguments of a host's call by name; a host may pass anything."""


class Pipeline(Protocol):
    """A pipeline of diffusers, ordinary or modular. Its denoisers are of type `nn.Module`.

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
