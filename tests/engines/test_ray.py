"""Work on a Ray cluster of two CPUs on this machine."""

import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import vsf
from vsf.engines.ray import RayCluster
from vsf.errors import RequestError

SLOW = pytest.mark.slow  # a cluster takes a while to start


@pytest.fixture(scope="module")
def cluster():
    ray = pytest.importorskip("ray")
    paths = os.pathsep.join(str(path) for path in (Path(__file__).parent, Path(vsf.__file__).parents[1]))
    ray.init(num_cpus=2, num_gpus=0, include_dashboard=False, runtime_env={"env_vars": {"PYTHONPATH": paths}})
    yield "auto"
    ray.shutdown()


@dataclass
class Work:
    folder: Path
    refused: int = -1

    def __call__(self, job):
        if job == self.refused:
            raise RequestError(f"job {job} is refused")
        if job == 2 and not (self.folder / "died").exists():
            (self.folder / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return job


@SLOW
def test_every_job_is_done_also_that_of_an_actor_that_is_killed(cluster, tmp_path):
    assert sorted(RayCluster(cluster).map(Work(tmp_path), list(range(6)))) == list(range(6))
    assert (tmp_path / "died").exists()


@SLOW
def test_an_error_of_the_work_comes_through_as_it_is(cluster, tmp_path):
    with pytest.raises(RequestError) as caught:
        list(RayCluster(cluster, 1).map(Work(tmp_path, refused=0), [0]))
    assert str(caught.value) == "job 0 is refused"


@SLOW
def test_more_workers_than_fit_are_refused(cluster, tmp_path):
    with pytest.raises(RequestError, match=r"room for 2 workers.*3 were asked for"):
        list(RayCluster(cluster, 3).map(Work(tmp_path), [0]))
    with pytest.raises(RequestError, match="room for 0 workers"):
        list(RayCluster(cluster, threads=4).map(Work(tmp_path), [0]))


@SLOW
def test_another_process_finds_the_cluster_by_its_address(cluster):
    import ray

    address = ray.get_runtime_context().gcs_address
    script = f"from vsf.engines.ray import RayCluster\nprint(sorted(RayCluster({address!r}, 1).map(abs, [-1, -2])))"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert told.stdout.splitlines()[-1] == "[1, 2]"


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "[::1]:1", "127.0.0.1:99999"])
def test_an_address_where_nobody_listens_is_refused_at_once(address):
    with pytest.raises(RequestError, match=re.escape(f'no Ray cluster at "{address}"')):
        list(RayCluster(address).map(print, [0]))


def test_without_a_job_no_cluster_is_looked_for():
    assert list(RayCluster("192.0.2.1:1").map(print, [])) == []
