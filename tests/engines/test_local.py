"""Work done in the process, in threads and in other processes, some of which die."""

import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from vsf.engines import InProcess, Processes, Threads
from vsf.errors import RequestError


@dataclass
class Squares:
    """Counts what this copy of the work has done."""

    done: int = 0

    def __call__(self, job):
        self.done += 1
        return job, job * job, self.done, os.getpid()


@dataclass
class Dying:
    """The worker that gets job 2 first is killed, `times` times."""

    folder: Path
    times: int = 1

    def __call__(self, job):
        if job == 2:
            deaths = self.folder / "deaths"
            count = len(deaths.read_text()) if deaths.exists() else 0
            if count < self.times:
                deaths.write_text("x" * (count + 1))
                os.kill(os.getpid(), signal.SIGKILL)
        return job


@dataclass
class Refusing:
    def __call__(self, job):
        if job == 1:
            raise RequestError(f"job {job} is refused")
        return job


@dataclass
class Failing:
    def __call__(self, job):
        raise ZeroDivisionError(f"job {job} divides by nothing")


SLOW = pytest.mark.slow  # a process takes a while to import torch


@pytest.mark.parametrize(
    "engine",
    [InProcess(), Threads(3), pytest.param(Processes(2), marks=SLOW)],
    ids=lambda engine: type(engine).__name__,
)
def test_every_job_is_done_once_and_errors_come_through(engine):
    found = list(engine.map(Squares(), list(range(6))))
    assert sorted((job, square) for job, square, *_ in found) == [(job, job * job) for job in range(6)]
    with pytest.raises(RequestError, match="job 1 is refused"):
        list(engine.map(Refusing(), list(range(6))))
    assert list(engine.map(Squares(), [])) == []


@SLOW
def test_processes_keep_their_copy_of_the_work_from_job_to_job():
    found = list(Processes(2).map(Squares(), list(range(6))))
    workers = {pid for *_, pid in found}
    assert os.getpid() not in workers
    assert len(workers) <= 2
    assert sorted(count for *_, count, _ in found) != [1] * 6


def test_the_job_of_a_worker_that_is_killed_is_done_again(tmp_path):
    assert sorted(Processes(2).map(Dying(tmp_path), list(range(5)))) == list(range(5))
    assert (tmp_path / "deaths").exists()


@SLOW
def test_a_job_that_kills_every_worker_is_given_up(tmp_path):
    with pytest.raises(
        RequestError, match="3 worker processes in a row died over the same job, the last with exit code"
    ):
        list(Processes(1).map(Dying(tmp_path, times=99), list(range(5))))
    assert len((tmp_path / "deaths").read_text()) == 3


def test_a_job_that_fails_in_every_worker_says_why():
    with pytest.raises(RequestError, match=r"exit code 1: ZeroDivisionError: job 0 divides by nothing\."):
        list(Processes(1).map(Failing(), [0]))


@SLOW
def test_stopping_early_leaves_no_worker_behind():
    results = Processes(2).map(Squares(), list(range(50)))
    *_, pid = next(results)
    results.close()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.waitpid(pid, os.WNOHANG)
            os.kill(pid, 0)
        except (ChildProcessError, ProcessLookupError):
            return
        time.sleep(0.01)
    pytest.fail("the worker lives on")


def test_threads_that_are_stopped_take_no_further_job():
    begun, hold = [], threading.Event()

    def work(job):
        begun.append(job)
        if job:
            hold.wait(5)
        return job

    results = Threads(1).map(work, list(range(9)))
    assert next(results) == 0
    while len(begun) < 2:
        time.sleep(0.001)
    threading.Timer(0.05, hold.set).start()
    results.close()
    assert begun == [0, 1]
