"""Names for the diffusers objects that families read."""

from collections.abc import Mapping
from typing import Any, TypeAlias

Pipeline: TypeAlias = Any
"""A diffusers pipeline. Every family reads parts that only its own pipelines have, so the type cannot be any closer."""

Denoiser: TypeAlias = Any
"""A diffusers model that predicts the noise: an nn.Module with a `config`, never wrapped by torch.compile."""

CallArguments: TypeAlias = Mapping[str, Any]
"""The arguments of one denoiser call, by name."""
