"""Killed at random, on one process, several, or a cluster: the rows are those of an undisturbed run."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import vsf
from support import fake_endpoint as fake
from support import tiny_pipelines as tiny
from support.bench_fixtures import NONE, PAIRS, VSF, Coloured, DiesOnce
from vsf.bench.run import draw as run
from vsf.bench.run.batch import Conditions, DrawJob
from vsf.bench.run.draw import Task
from vsf.bench.run.rows import ROWS, VERDICTS, rows, verdicts
from vsf.engines import InProcess, Processes
from vsf.engines.ray import RayCluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
TESTS = str(Path(__file__).parents[1])
TIMING = {"seconds", "peak_memory", "host"}
SCRIPT = f"""
import sys
sys.path.insert(0, {TESTS!r})
from pathlib import Path
from support.bench_fixtures import NONE, PAIRS, VSF, SlowJudge, SlowlyColoured
from vsf.bench.run import draw as run
from vsf.bench.run import judge
from vsf.bench.run.batch import Conditions
from vsf.engines import InProcess

run.DrawJob = SlowlyColoured
run.identify = lambda model: (model, "revision")
task = run.Task([NONE, VSF], PAIRS, range(60), Conditions(batch=2))
run.run(Path(sys.argv[1]), task, InProcess(), lambda done, total: None)
judge.judge(Path(sys.argv[1]), SlowJudge(), InProcess(), lambda done, total: None)
"""
ASKING = f"""
import sys
sys.path.insert(0, {TESTS!r})
from pathlib import Path
from vsf.bench.run import judge
from vsf.engines import Threads
from vsf.judges.openai import OpenAIJudge

folder = Path(sys.argv[1])
asked = OpenAIJudge("m", sys.argv[2], prices=(1.0, 2.0), cache=folder / "answers")
judge.judge(folder, asked, Threads(3), lambda done, total: None)
"""
TOTAL = 2 * len(PAIRS) * 60
KILLS = 20


def content(folder):
    """Everything of the rows that has to be the same in a second run, by key."""
    return {
        row.key: {name: value for name, value in row.model_dump().items() if name not in TIMING} for row in rows(folder)
    }


def finished(folder):
    """How many rows and verdicts there are, without reading them."""
    files = (folder / name for name in (ROWS, VERDICTS))
    return sum(file.read_bytes().count(b"\n") for file in files if file.exists())


def test_twenty_kills_while_drawing_and_judging_lose_nothing_and_do_nothing_twice(tmp_path):
    script, killed, whole = tmp_path / "script.py", tmp_path / "killed", tmp_path / "whole"
    script.write_text(SCRIPT)
    rng = random.Random(0)
    marks = sorted(rng.sample(range(1, 2 * TOTAL - 20), KILLS))
    deaths = 0
    for mark in marks:
        process = subprocess.Popen([sys.executable, script, killed])
        while process.poll() is None and finished(killed) < mark:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.01))
        process.send_signal(signal.SIGKILL)
        deaths += process.wait() == -signal.SIGKILL
    assert deaths == KILLS
    subprocess.run([sys.executable, script, killed], check=True)
    subprocess.run([sys.executable, script, whole], check=True)
    assert content(killed) == content(whole)
    assert len(rows(killed)) == TOTAL
    assert (killed / VERDICTS).read_bytes().count(b"\n") == len(verdicts(whole))
    assert {repr(v) for v in verdicts(killed)} == {repr(v) for v in verdicts(whole)}


def test_kills_while_an_endpoint_is_asked_lose_no_verdict_and_no_money(tmp_path, monkeypatch):
    script, drawn, killed, whole = (tmp_path / name for name in ("script.py", "drawn", "killed", "whole"))
    script.write_text(ASKING)
    monkeypatch.setattr(run, "DrawJob", Coloured)
    monkeypatch.setattr(run, "identify", lambda model: (model, "revision"))
    run.run(drawn, Task([NONE, VSF], PAIRS, range(12), Conditions(batch=5)), InProcess(), lambda done, total: None)
    rng, kills = random.Random(1), 5
    for folder in (killed, whole):
        shutil.copytree(drawn, folder)
    images = finished(killed)
    with fake.serving(otherwise=fake.sleeps(0.02)) as endpoint:
        for mark in sorted(rng.sample(range(1, images - 9), kills)):
            process = subprocess.Popen([sys.executable, script, killed, endpoint.url])
            while process.poll() is None and finished(killed) < images + mark:
                time.sleep(0.001)
            time.sleep(rng.uniform(0, 0.01))
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
        subprocess.run([sys.executable, script, killed, endpoint.url], check=True)
        assert images <= len(endpoint.calls) <= images + 3 * kills
        subprocess.run([sys.executable, script, whole, endpoint.url], check=True)
    assert len(verdicts(killed)) == images == (killed / VERDICTS).read_bytes().count(b"\n")
    assert {repr(v) for v in verdicts(killed)} == {repr(v) for v in verdicts(whole)}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A task on a model of random weights, and its rows from one process."""
    folder = tmp_path_factory.mktemp("undisturbed")
    tiny.sd3(t5=False, patch_size=2).save_pretrained(folder / "random")
    settings = [setting.model_copy(update={"steps": 2}) for setting in (NONE, VSF)]
    task = Task(settings, PAIRS, [0, 1], Conditions(model=str(folder / "random"), size=(16, 16), batch=2))
    run.run(folder / "rows", task, InProcess(), lambda done, total: None)
    return task, content(folder / "rows")


def disturbed(folder, task, engine, monkeypatch):
    """The rows of the same task where one worker is killed."""
    monkeypatch.setattr(run, "DrawJob", lambda conditions: DiesOnce(DrawJob(conditions), folder / "died"))
    run.run(folder / "rows", task, engine, lambda done, total: None)
    assert (folder / "died").exists()
    return content(folder / "rows")


def test_two_processes_one_of_which_is_killed_draw_the_rows_of_one(undisturbed, tmp_path, monkeypatch):
    task, expected = undisturbed
    assert disturbed(tmp_path, task, Processes(2), monkeypatch) == expected


def test_a_cluster_of_two_actors_one_of_which_is_killed_draws_the_rows_of_one(undisturbed, tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    paths = os.pathsep.join([TESTS, str(Path(vsf.__file__).parents[1])])  # the workers run the code that is tested
    ray.init(num_cpus=2, num_gpus=0, include_dashboard=False, runtime_env={"env_vars": {"PYTHONPATH": paths}})
    try:
        task, expected = undisturbed
        assert disturbed(tmp_path, task, RayCluster("auto"), monkeypatch) == expected
    finally:
        ray.shutdown()
