"""Engines on this machine: the process itself, its threads, or worker processes."""

from __future__ import annotations

import multiprocessing
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Generic, cast

from vsf.engines.base import Engine, EngineOptions, Job, Result
from vsf.errors import RequestError, VsfError

ATTEMPTS = 3  # how often a job is handed out whose worker dies


def local(options: EngineOptions) -> Engine:
    """Make the engine for a number of workers on this machine: this very process for one."""
    workers = options.workers or 1
    return InProcess() if workers == 1 else Processes(workers)


class InProcess:
    """Runs one job after the other in this process."""

    def map(self, work: Callable[[Job], Result], jobs: Sequence[Job]) -> Iterator[Result]:
        """See `vsf.engines.base.Engine`."""
        return map(work, jobs)


@dataclass(frozen=True)
class Threads:
    """Runs jobs in threads that share one `work`: for work that waits, such as for a judge behind a network."""

    count: int

    def map(self, work: Callable[[Job], Result], jobs: Sequence[Job]) -> Iterator[Result]:
        """See `vsf.engines.base.Engine`."""
        pool = ThreadPoolExecutor(self.count)
        try:
            futures = [pool.submit(work, job) for job in jobs]
            for future in as_completed(futures):
                yield future.result()
        finally:
            # Without this an error, or a caller that stops, would still wait for every job that was not begun.
            pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class Processes:
    """Runs jobs in worker processes; one that dies is replaced and its job is run again."""

    count: int

    def map(self, work: Callable[[Job], Result], jobs: Sequence[Job]) -> Iterator[Result]:
        """See `vsf.engines.base.Engine`."""
        team = _Team(work, jobs)
        try:
            while team.hire(self.count):
                yield from team.wait_for_results()
        finally:
            team.dismiss()


class _Team(Generic[Job, Result]):
    """The live workers, and the indices of the jobs that still have to be handed out."""

    def __init__(self, work: Callable[[Job], Result], jobs: Sequence[Job]) -> None:
        self.work = work
        self.jobs = jobs
        self.waiting = list(range(len(jobs)))[::-1]  # taken from the end
        self.deaths = Counter[int]()
        self.workers: dict[Connection, _Worker] = {}

    def hire(self, count: int) -> bool:
        """Start workers until there are `count` or no job is waiting. Returns whether any worker is busy."""
        while self.waiting and len(self.workers) < count:
            worker = _Worker(self.work)
            self.workers[worker.pipe] = worker
            self._hand_out(worker)
        return bool(self.workers)

    def wait_for_results(self) -> Iterator[Result]:
        """Wait until a worker finishes or dies, and yield the results that have come in."""
        for pipe in wait(list(self.workers)):
            worker = self.workers.pop(cast(Connection, pipe))
            try:
                result = worker.pipe.recv()
            except (EOFError, OSError) as error:
                self._count_death(worker, error)
                continue
            if isinstance(result, _Crash):
                self._count_death(worker, result)
                continue
            if isinstance(result, VsfError):
                worker.process.kill()
                raise result
            if self.waiting:
                self.workers[worker.pipe] = worker
                self._hand_out(worker)  # before the result is handled, so that the worker never idles
            else:
                worker.pipe.close()
            yield result

    def dismiss(self) -> None:
        """Kill all busy workers."""
        for worker in self.workers.values():
            worker.process.kill()

    def _hand_out(self, worker: _Worker) -> None:
        worker.job = self.waiting.pop()
        with suppress(OSError):  # the death of a worker is noticed when its result is waited for
            worker.pipe.send(self.jobs[worker.job])

    def _count_death(self, worker: _Worker, error: Exception) -> None:
        """Put a dead worker's job back. Raises RequestError once ATTEMPTS workers died over it."""
        worker.process.join()
        self.deaths[worker.job] += 1
        if self.deaths[worker.job] == ATTEMPTS:
            # A worker that is killed, for taking too much memory above all, cannot say why.
            reason = str(error) if isinstance(error, _Crash) else "out of memory, perhaps"
            raise RequestError(
                f"{ATTEMPTS} worker processes in a row died over the same job, the last with exit code "
                f"{worker.process.exitcode}: {reason}. Ask for fewer --workers or a smaller --batch."
            ) from error
        self.waiting.append(worker.job)


class _Crash(Exception):  # noqa: N818 - a message, which is never raised
    """The error that a worker dies of, in words: the error itself may not survive the way to the parent."""


class _Worker:
    """A worker process, the pipe to it, and the index of its current job."""

    def __init__(self, work: Callable[[Job], Result]) -> None:
        context = multiprocessing.get_context("spawn")  # CUDA and threads do not survive a fork
        self.pipe, far_end = context.Pipe()
        self.process = context.Process(target=_serve, args=(far_end, work), daemon=True)
        self.process.start()
        far_end.close()  # the worker holds the only other handle, so its death closes the pipe
        self.job = -1


def _serve(pipe: Connection, work: Callable[[Job], Result]) -> None:
    """Run jobs from the pipe until it is closed, which the death of the parent does, too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of the group; the parent decides
    with suppress(EOFError, OSError):
        while True:
            job = pipe.recv()
            # An error of this package is sent to the parent, which raises it. Any other ends the process, which may be
            # broken for good, and the parent has another worker try the job.
            try:
                result: Result | VsfError = work(job)
            except VsfError as error:
                result = error
            except Exception as error:
                pipe.send(_Crash(f"{type(error).__name__}: {error}"))
                raise
            pipe.send(result)
