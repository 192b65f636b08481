"""The engines by name. Adding one takes a module with its class, and an entry here."""

from __future__ import annotations

from collections.abc import Callable

from vsf.engines.base import Engine, EngineOptions
from vsf.engines.local import local
from vsf.engines.ray import ray_cluster
from vsf.registry import Registry

ENGINES: Registry[Callable[[EngineOptions], Engine]] = Registry("engine", {"local": local, "ray": ray_cluster})
"""Functions that make an engine."""
