"""Jobs whose results outlive the run that did them."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from crew import Crew
from vsf.errors import RequestError


@dataclass(frozen=True)
class Counting:
    """Says in which process it ran, and leaves a mark in a folder each time that it does."""

    folder: Path
    number: int

    @property
    def size(self):
        return 2

    def run(self):
        (self.folder / f"{self.number}-{time.monotonic_ns()}").touch()
        return [{"number": self.number, "process": os.getpid()}]


def work(tmp_path, numbers, *, stamp="weights", workers=1):
    ticks, marks = [], tmp_path / "marks"
    marks.mkdir(exist_ok=True)
    with Crew(tmp_path / "kept" / "done.jsonl", stamp, workers) as crew:
        results = crew.perform([Counting(marks, number) for number in numbers], ticks.append)
    return results, sum(ticks), len(list(marks.iterdir()))


def test_results_come_in_the_order_of_the_jobs_and_every_image_is_counted(tmp_path):
    results, ticks, runs = work(tmp_path, [3, 1, 2])
    assert [rows[0]["number"] for rows in results] == [3, 1, 2]
    assert (ticks, runs) == (6, 3)


def test_a_second_run_does_only_what_is_missing(tmp_path):
    first, _, _ = work(tmp_path, [1, 2])
    second, ticks, runs = work(tmp_path, [1, 2, 3])
    assert second[:2] == first
    assert (ticks, runs) == (6, 3)


def test_results_of_other_weights_are_not_taken_for_these(tmp_path):
    work(tmp_path, [1], stamp="old")
    assert work(tmp_path, [1], stamp="new")[2] == 2
    assert work(tmp_path, [1], stamp="old")[2] == 2


def test_a_line_torn_by_a_crash_is_done_again(tmp_path):
    work(tmp_path, [1, 2])
    kept = tmp_path / "kept" / "done.jsonl"
    kept.write_bytes(kept.read_bytes()[:-20])
    results, _, runs = work(tmp_path, [1, 2])
    assert [rows[0]["number"] for rows in results] == [1, 2]
    assert runs == 3
    assert work(tmp_path, [1, 2])[2] == 3


def test_a_damaged_file_is_refused_by_name(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "done.jsonl").write_text("{}\n")
    with pytest.raises(RequestError, match=r"done\.jsonl"):
        work(tmp_path, [1])


def test_what_was_finished_before_a_failure_is_kept(tmp_path, monkeypatch):
    run = Counting.run

    def failing(self):
        if self.number == 2:
            raise KeyboardInterrupt
        return run(self)

    monkeypatch.setattr(Counting, "run", failing)
    with pytest.raises(KeyboardInterrupt):
        work(tmp_path, [1, 2, 3])
    monkeypatch.undo()
    assert work(tmp_path, [1, 2, 3])[2] == 3


SCRIPT = """
import os, sys, time
from dataclasses import dataclass
from pathlib import Path
from crew import Crew

@dataclass(frozen=True)
class Slow:
    number: int
    seconds: float
    @property
    def size(self): return 1
    def run(self):
        time.sleep(self.seconds)
        return [{"number": self.number, "process": os.getpid()}]

if __name__ == "__main__":
    folder, seconds = Path(sys.argv[1]), float(sys.argv[2])
    with Crew(folder / "done.jsonl", "", 2) as crew:
        jobs = [Slow(0, 0.0), Slow(1, 0.0), Slow(2, seconds)]
        print([rows[0] for rows in crew.perform(jobs, lambda done: None)])
"""


def test_workers_end_with_a_parent_that_is_killed_and_the_next_run_goes_on(tmp_path):
    script = tmp_path / "slow.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen([sys.executable, script, tmp_path, "600"], env=environment)
    kept = tmp_path / "done.jsonl"
    while not (kept.exists() and kept.read_bytes().count(b"\n") == 2):
        time.sleep(0.2)
        assert parent.poll() is None
    workers = children(parent.pid)
    assert workers
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{worker}").exists() for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not [worker for worker in workers if Path(f"/proc/{worker}").exists()]
    assert len(kept.read_text().splitlines()) == 2


def children(pid):
    """The processes of a parent; of Linux alone."""
    tasks = Path(f"/proc/{pid}/task/{pid}/children")
    if not tasks.exists():
        pytest.skip("needs /proc")
    return [int(child) for child in tasks.read_text().split()]
