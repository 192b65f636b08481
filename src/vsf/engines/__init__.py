"""Engines: where the jobs of a benchmark run."""

from vsf.engines.base import Engine
from vsf.engines.local import InProcess, Processes, Threads

__all__ = ["Engine", "InProcess", "Processes", "Threads"]
