"""This machine: the process itself, threads of it, or further processes."""

from __future__ import annotations

import multiprocessing
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar, cast

from vsf.errors import RequestError, VsfError

Job = TypeVar("Job")
Done = TypeVar("Done")
ATTEMPTS = 3  # how often a job is given out that its worker did not survive


class InProcess:
    """One job after the other, here."""

    def map(self, work: Callable[[Job], Done], jobs: Sequence[Job]) -> Iterator[Done]:
        """See `vsf.bench.run.draw.Engine`."""
        return map(work, jobs)


@dataclass(frozen=True)
class Threads:
    """For work that waits for others, such as a judge behind a network; the threads share one `work`."""

    count: int

    def map(self, work: Callable[[Job], Done], jobs: Sequence[Job]) -> Iterator[Done]:
        """See `vsf.bench.run.draw.Engine`."""
        pool = ThreadPoolExecutor(self.count)
        try:
            for finished in as_completed([pool.submit(work, job) for job in jobs]):
                yield finished.result()
        finally:
            pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class Processes:
    """Processes that do not share memory; one that dies is replaced and its job done again."""

    count: int

    def map(self, work: Callable[[Job], Done], jobs: Sequence[Job]) -> Iterator[Done]:
        """See `vsf.bench.run.draw.Engine`."""
        team = _Team(work, jobs)
        try:
            while team.hire(self.count):
                yield from team.finished()
        finally:
            team.dismiss()


class _Team:
    """The workers that are alive, and the jobs that nobody works on."""

    def __init__(self, work: Callable[[Any], Any], jobs: Sequence[Any]) -> None:
        self.work, self.jobs = work, jobs
        self.waiting = list(range(len(jobs)))[::-1]
        self.deaths = Counter[int]()
        self.workers: dict[Connection, _Worker] = {}

    def hire(self, count: int) -> bool:
        """Bring the team up to `count` as long as there are jobs; returns whether anyone is at work."""
        while self.waiting and len(self.workers) < count:
            worker = _Worker(self.work)
            self.workers[worker.pipe] = worker
            self._give(worker)
        return bool(self.workers)

    def finished(self) -> Iterator[Any]:
        """Wait for someone to finish, or to die, and yield what was done."""
        for pipe in wait(list(self.workers)):
            worker = self.workers.pop(cast(Connection, pipe))
            try:
                outcome = worker.pipe.recv()
            except (EOFError, OSError) as error:
                self._bury(worker, error)
                continue
            if isinstance(outcome, VsfError):
                worker.process.kill()
                raise outcome
            if self.waiting:
                self.workers[worker.pipe] = worker
                self._give(worker)  # before this one's result is dealt with, so that nobody sits idle
            else:
                worker.pipe.close()
            yield outcome

    def dismiss(self) -> None:
        """Stop whoever still works."""
        for worker in self.workers.values():
            worker.process.kill()

    def _give(self, worker: _Worker) -> None:
        worker.job = self.waiting.pop()
        with suppress(OSError):  # a worker that is dead already is noticed when its result is waited for
            worker.pipe.send(self.jobs[worker.job])

    def _bury(self, worker: _Worker, error: Exception) -> None:
        worker.process.join()
        self.deaths[worker.job] += 1
        if self.deaths[worker.job] == ATTEMPTS:
            raise RequestError(
                f"{ATTEMPTS} worker processes in a row died over the same job, the last with exit code "
                f"{worker.process.exitcode}: out of memory, perhaps. Ask for fewer --workers or a smaller --batch."
            ) from error
        self.waiting.append(worker.job)


class _Worker:
    """A process, the pipe to it, and the number of the job that it has."""

    def __init__(self, work: Callable[[Any], Any]) -> None:
        context = multiprocessing.get_context("spawn")  # CUDA and threads do not survive a fork
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, work), daemon=True)
        self.process.start()
        theirs.close()  # so that its death closes the pipe
        self.job = -1


def _serve(pipe: Connection, work: Callable[[Any], Any]) -> None:
    """Do one job after the other until the pipe is closed, also by the death of the process at its other end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    with suppress(EOFError, OSError):
        while True:
            job = pipe.recv()
            try:
                outcome = work(job)
            except VsfError as error:
                outcome = error
            pipe.send(outcome)
