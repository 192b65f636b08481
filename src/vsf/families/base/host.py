"""Names for the diffusers and transformers objects that families read."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

Pipeline: TypeAlias = Any
"""A diffusers pipeline. Every family reads parts that only its own pipelines have, so the type cannot be any closer."""

Denoiser: TypeAlias = Any
"""A diffusers model that predicts the noise: an nn.Module with a `config`, never wrapped by torch.compile."""

Tokenizer: TypeAlias = Any
"""A tokenizer of transformers, fast or slow, in any of the versions that diffusers runs with."""

CallArguments: TypeAlias = Mapping[str, Any]
"""The arguments of one call of a denoiser or a pipeline, by name."""

EncodingOptions: TypeAlias = Mapping[str, Any]
"""Arguments of a pipeline's `encode_prompt` that change how a text is encoded, such as `clip_skip`."""

Original: TypeAlias = Callable[..., Any]
"""The host's own function, which an override gets as its first argument and calls with the object as its second."""
