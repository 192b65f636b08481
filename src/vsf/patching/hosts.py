"""Types for the objects of diffusers, as far as guidance relies on them."""

from collections.abc import Mapping
from typing import Any, Protocol

CallArguments = Mapping[str, Any]
"""The arguments of a host's call by name; a host may pass anything."""


class Pipeline(Protocol):
    """A pipeline of diffusers, ordinary or modular. Its denoisers are of type `nn.Module`.

    Members that only some pipelines have, such as `encode_prompt` or `do_classifier_free_guidance`, are not listed;
    code checks for them where it needs them.
    """

    @property
    def components(self) -> Mapping[str, Any]:
        """Models, tokenizers and scheduler by the names of their attributes; None for a part that was freed."""
        ...

    def set_progress_bar_config(self, **options: Any) -> None:
        """Set how the progress of a run is shown."""
        ...
