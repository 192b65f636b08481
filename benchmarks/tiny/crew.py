"""A resumable process pool: finished jobs are kept in a file and skipped by the next run."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context, parent_process
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import torch
from pydantic import BaseModel

from vsf.bench.run import jsonl

Rows = list[dict[str, Any]]
Tick = Callable[[int], None]
"""Called with the number of images that were just finished."""


class Job(Protocol):
    """Work that can be sent to another process; its `repr` identifies it."""

    @property
    def size(self) -> int:
        """Number of images it is about."""
        ...

    def run(self) -> Rows:
        """Do the work, and return plain JSON values."""
        ...


class Done(BaseModel):
    """A finished job, by the hash of its `repr`."""

    job: str
    rows: Rows


class Crew:
    """Runs jobs in worker processes of one thread each, or in this process if there is one worker.

    Args:
        file: Keeps results as they come.
        stamp: Stands for everything that results depend on beside the job, such as a hash of weights; results with
            another stamp are ignored.
        workers: Number of processes.

    Raises:
        RequestError: The file is damaged, or cannot be read or written.
    """

    def __init__(self, file: Path, stamp: str, workers: int) -> None:
        self.file = file
        self.stamp = stamp
        self.workers = workers
        self._pool: ProcessPoolExecutor | None = None
        self._done = {done.job: done.rows for done in jsonl.read(file, Done)}

    def __enter__(self) -> Crew:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        if self.workers > 1:
            self._pool = ProcessPoolExecutor(self.workers, mp_context=get_context("spawn"), initializer=_start)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def perform(self, jobs: Sequence[Job], tick: Tick) -> list[Rows]:
        """Return the results of jobs, in their order; finished jobs are not run again."""
        keys = list(map(self._key, jobs))
        missing = []
        finished_images = 0
        for job, key in zip(jobs, keys, strict=True):
            if key in self._done:
                finished_images += job.size
            else:
                missing.append(job)
        tick(finished_images)
        # Stored one by one, so that a killed run loses no finished job.
        for job, rows in self._results(missing):
            jsonl.append(self.file, [Done(job=self._key(job), rows=rows)])
            self._done[self._key(job)] = rows
            tick(job.size)
        return [self._done[key] for key in keys]

    def _results(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Rows]]:
        if self._pool is None:
            for job in jobs:
                yield job, job.run()
            return
        running = {self._pool.submit(job.run): job for job in jobs}
        for future in as_completed(running):
            yield running[future], future.result()

    def _key(self, job: Job) -> str:
        return hashlib.sha256(f"{self.stamp} {job!r}".encode()).hexdigest()[:24]


def _start() -> None:
    """Prepare a worker: only the parent handles Ctrl-C, and no worker outlives it, however it dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    # sys.exit would end this thread only.
    os._exit(1)
