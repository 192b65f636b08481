"""Keeps guided and unguided calls of one denoiser, made by several threads at once, out of each other's way."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vsf.errors import AlreadyGuidedError


class Flights:
    """Counts the calls of one denoiser that are in flight, and refuses a call that would meet another one.

    A guided call needs the attention layers for itself. Meanwhile other threads may call the denoiser unguided, unless
    it is compiled: compiled code cannot ask which thread it runs in, so both calls would be guided, or neither.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._guided_by: int | None = None
        self._unguided = 0

    @contextmanager
    def guided(self, is_compiled: bool) -> Iterator[None]:
        """Hold the place of the one guided call during the block. Raises AlreadyGuidedError when calls would meet."""
        with self._lock:
            if self._guided_by is not None or (is_compiled and self._unguided):
                raise _calls_meet()
            self._guided_by = threading.get_ident()
        try:
            yield
        finally:
            self._guided_by = None

    @contextmanager
    def unguided(self, is_compiled: Callable[[], bool]) -> Iterator[None]:
        """Count an unguided call during the block. Raises AlreadyGuidedError when calls would meet.

        `is_compiled` is asked only while a guided call is in flight, since finding out takes time.
        """
        with self._lock:
            # A guided call of the same thread is further up on the stack: the denoiser calls itself.
            if self._guided_by is not None and (self._guided_by == threading.get_ident() or is_compiled()):
                raise _calls_meet()
            self._unguided += 1
        try:
            yield
        finally:
            with self._lock:
                self._unguided -= 1


def _calls_meet() -> AlreadyGuidedError:
    return AlreadyGuidedError(
        "another call of this denoiser is in flight, and one of the two is guided: let one pipeline at a time use a "
        "denoiser, or give each thread a denoiser of its own"
    )
