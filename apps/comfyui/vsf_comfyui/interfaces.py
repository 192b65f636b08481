"""Protocols of ComfyUI's objects: the part of each that the pack uses."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

Options = Mapping[str, Any]
"""A dictionary of the host, such as `transformer_options`, whose values may be anything."""
Attention = Callable[..., Tensor]
"""The host's attention: query, key, value and the number of heads first, then its options."""
Conditioning = Sequence[tuple[Tensor, Options]]
"""The host's CONDITIONING: entries of text tokens (1, tokens, channels) and their options."""
Chunk = Sequence[tuple[Any, ...]]
"""Tokens that are encoded together: (token, weight) or (token, weight, word number), 0 for marks and padding."""
Tokens = Mapping[str, Sequence[Chunk]]
"""The chunks of each tokenizer."""


class BaseModel(Protocol):
    """The host's BaseModel: a denoiser, and how its conditions are prepared."""

    @property
    def diffusion_model(self) -> nn.Module:
        """The denoiser."""

    def extra_conds(self, **arguments: Any) -> dict[str, Any]:
        """Return the conditions for a conditioning's options, each an object with the attribute `cond`."""

    @property
    def manual_cast_dtype(self) -> torch.dtype | None:
        """The dtype that the model computes in, None where it is that of its weights."""

    def get_dtype(self) -> torch.dtype:
        """Return the dtype of the weights."""


class ModelPatcher(Protocol):
    """A MODEL: a model with patches and wrappers, which are applied only while it runs."""

    @property
    def model(self) -> BaseModel:
        """The model, shared by all clones."""

    def clone(self) -> Self:
        """Return a copy with the same model."""

    def get_wrappers(self, kind: str, key: str, /) -> Sequence[Any]:
        """Return the wrappers of a kind under a key."""

    def add_wrapper_with_key(self, kind: str, key: str, wrapper: Callable[..., object], /) -> None:
        """Add a wrapper."""

    def remove_wrappers_with_key(self, kind: str, key: str, /) -> None:
        """Remove all wrappers of a kind under a key."""

    def add_object_patch(self, name: str, patch: object, /) -> None:
        """Replace an attribute of the model by its path."""


class ModelExecutor(Protocol):
    """The executor that a wrapper of `apply_model` gets: it calls the remaining wrappers and the model."""

    @property
    def class_obj(self) -> BaseModel:
        """The model."""

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        """Make the call."""


class Guider(Protocol):
    """A guider of the host."""

    @property
    def conds(self) -> Mapping[str, Sequence[Options] | None]:
        """Its conditionings by name."""


class GuiderExecutor(Protocol):
    """The executor that a wrapper of `predict_noise` gets."""

    @property
    def class_obj(self) -> Guider:
        """The guider."""

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        """Make the call."""


class Clip(Protocol):
    """A CLIP: tokenizers and text encoders."""

    def clone(self) -> Self:
        """Return a copy with the same weights."""

    def set_tokenizer_option(self, name: str, value: object, /) -> None:
        """Set an option of the tokenizers."""

    def tokenize(self, text: str, return_word_ids: bool = False) -> Tokens:
        """Return the tokens of a text, with word numbers if `return_word_ids`."""

    def encode_from_tokens_scheduled(self, tokens: Tokens, /) -> Conditioning:
        """Encode tokens; there are several entries if the text encoder is scheduled."""
