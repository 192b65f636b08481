"""Where the work of a benchmark runs."""

from vsf.engines.local import InProcess, Processes, Threads

__all__ = ["InProcess", "Processes", "Threads"]
