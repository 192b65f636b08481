"""Denoiser calls in flight at once, in several threads."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vsf.errors import AlreadyGuidedError


class Flights:
    """Counts the calls of one denoiser that are in flight, and refuses those that would meet.

    A guided call needs the layers for itself. Other threads may meanwhile call the denoiser unguided, but for compiled
    code, which cannot tell threads apart.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._guided_by: int | None = None
        self._unguided = 0

    @contextmanager
    def guided(self, is_compiled: bool) -> Iterator[None]:
        """Be the one guided call for a while. Raises AlreadyGuidedError."""
        with self._lock:
            if self._guided_by is not None or (is_compiled and self._unguided):
                raise _meeting()
            self._guided_by = threading.get_ident()
        try:
            yield
        finally:
            self._guided_by = None

    @contextmanager
    def unguided(self, is_compiled: Callable[[], bool]) -> Iterator[None]:
        """Be an unguided call for a while. Raises AlreadyGuidedError."""
        with self._lock:
            if self._guided_by is not None and (self._guided_by == threading.get_ident() or is_compiled()):
                raise _meeting()
            self._unguided += 1
        try:
            yield
        finally:
            with self._lock:
                self._unguided -= 1


def _meeting() -> AlreadyGuidedError:
    return AlreadyGuidedError(
        "another call of this denoiser is in flight, and one of the two is guided: let one pipeline at a time use a "
        "denoiser, or give each thread a denoiser of its own"
    )
