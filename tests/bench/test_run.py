"""Runs that are stopped anywhere go on where they stopped, and end as if nothing had happened."""

import errno
import hashlib
import os
from dataclasses import replace

import pytest
from PIL import Image

from support.bench_fixtures import NONE, PAIRS, VSF, Coloured
from vsf.bench.plan import Setting
from vsf.bench.run import draw as run
from vsf.bench.run import jsonl
from vsf.bench.run.batch import Conditions
from vsf.bench.run.draw import Task
from vsf.bench.run.manifest import in_use, pairs, read_manifest
from vsf.bench.run.rows import ROWS, rows
from vsf.engines import InProcess, Processes
from vsf.errors import RequestError

TASK = Task([NONE, VSF], PAIRS, [0, 1], Conditions(batch=2))
TIMING = {"seconds", "peak_memory", "host"}


@pytest.fixture(autouse=True)
def _without_a_model(monkeypatch):
    monkeypatch.setattr(run, "DrawJob", Coloured)
    monkeypatch.setattr(run, "identify", lambda model: (model, f"revision of {model}"))


class Stopping:
    """Finishes some jobs, then stops as Ctrl-C would."""

    def __init__(self, after):
        self.after, self.jobs = after, 0

    def map(self, work, jobs):
        for job in jobs:
            if self.jobs == self.after:
                raise KeyboardInterrupt
            self.jobs += 1
            yield work(job)


def draw(folder, task=TASK, engine=None):
    told = []
    run.run(folder, task, engine or InProcess(), lambda done, total: told.append((done, total)))
    return told


def content(folder):
    """Everything of the rows that has to be the same in a second run, by key."""
    return {
        row.key: {name: value for name, value in row.model_dump().items() if name not in TIMING} for row in rows(folder)
    }


def test_there_is_one_row_for_each_setting_pair_and_seed_and_its_image_lies_beside_it(tmp_path):
    told = draw(tmp_path)
    drawn = rows(tmp_path)
    assert len(drawn) == 2 * 5 * 2
    assert {(row.label, row.pair, row.seed) for row in drawn} == {
        (label, pair.id, seed) for label in ("none", "vsf") for pair in PAIRS for seed in (0, 1)
    }
    assert told == [(0, 20), *((done, 20) for done in (2, 4, 5, 7, 9, 10, 12, 14, 15, 17, 19, 20))]
    for row in drawn:
        assert hashlib.sha256((tmp_path / row.image).read_bytes()).hexdigest() == row.image_hash
        assert Image.open(tmp_path / row.image).size == row.size
    guided = next(row for row in drawn if row.label == "vsf")
    assert guided.knobs["scale"] == 2.0
    assert guided.knobs["offset"] == 0.0
    assert guided.revision == "revision of tiny"


def test_a_second_run_draws_nothing(tmp_path):
    draw(tmp_path)
    before = (tmp_path / ROWS).read_bytes()
    assert draw(tmp_path, engine=Stopping(0)) == [(20, 20)]
    assert (tmp_path / ROWS).read_bytes() == before


@pytest.mark.parametrize("after", range(12))
def test_a_run_stopped_after_any_batch_ends_with_the_rows_of_an_undisturbed_one(tmp_path, after):
    draw(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        draw(tmp_path / "stopped", engine=Stopping(after))
    assert len(rows(tmp_path / "stopped")) == sum([2, 2, 1] * 4) - sum(([2, 2, 1] * 4)[after:])
    draw(tmp_path / "stopped")
    assert content(tmp_path / "stopped") == content(tmp_path / "whole")
    assert len(rows(tmp_path / "stopped")) == 20


def test_a_batch_of_which_one_row_is_missing_is_drawn_as_a_whole_and_no_row_is_written_twice(tmp_path):
    draw(tmp_path)
    whole = content(tmp_path)
    lines = (tmp_path / ROWS).read_bytes().splitlines(keepends=True)
    (tmp_path / ROWS).write_bytes(b"".join(lines[:-2]) + lines[-2][:40])
    batches = Stopping(99)
    draw(tmp_path, engine=batches)
    assert batches.jobs == 2  # the last is a batch of one
    assert content(tmp_path) == whole
    assert len(rows(tmp_path)) == 20


def test_a_full_disk_loses_nothing_that_was_finished(tmp_path, monkeypatch):
    written = []
    whole = jsonl.write

    def write(file, body):
        if len(written) == 7:
            raise RequestError(os.strerror(errno.ENOSPC))
        written.append(file)
        whole(file, body)

    with monkeypatch.context() as patch:
        patch.setattr(jsonl, "write", write)
        with pytest.raises(RequestError, match="No space left"):
            draw(tmp_path)
    assert len(rows(tmp_path)) == 5
    draw(tmp_path)
    assert len(content(tmp_path)) == len(rows(tmp_path)) == 20


def test_settings_seeds_and_pairs_may_join_later(tmp_path):
    draw(tmp_path, Task([NONE], PAIRS[:2], [0], Conditions(batch=2)))
    assert draw(tmp_path)[0] == (2, 20)
    assert len(rows(tmp_path)) == 20
    assert pairs(tmp_path) == PAIRS
    assert list(read_manifest(tmp_path).settings) == ["none", "vsf"]


CHANGED = {
    "batch": (Task([NONE], PAIRS, [0], Conditions(batch=3)), "drawn with batch 2, and now 3"),
    "model": (Task([NONE], PAIRS, [0], Conditions(batch=2, model="other")), "drawn with model tiny, and now other"),
    "setting": (Task([Setting(label="none", method="none", steps=4)], PAIRS, [0], Conditions(batch=2)), '"none"'),
    "pair": (Task([NONE], [PAIRS[0].__class__(**{**vars(PAIRS[0]), "prompt": "x"})], [0], Conditions(batch=2)), '"p0"'),
}


@pytest.mark.parametrize(("task", "message"), CHANGED.values(), ids=CHANGED)
def test_a_folder_refuses_rows_that_cannot_be_compared(tmp_path, task, message):
    draw(tmp_path)
    with pytest.raises(RequestError, match=message):
        draw(tmp_path, task)
    assert len(rows(tmp_path)) == 20


def test_other_weights_under_the_same_name_are_refused(tmp_path, monkeypatch):
    draw(tmp_path)
    monkeypatch.setattr(run, "identify", lambda model: (model, "other"))
    with pytest.raises(RequestError, match="other revisions"):
        draw(tmp_path)


def test_a_setting_may_bring_its_own_model(tmp_path):
    base = Setting(label="base", method="none", model="tiny-base", steps=28)
    draw(tmp_path, Task([NONE, base], PAIRS, [0], Conditions(batch=5)))
    assert {row.label: (row.model, row.revision, row.steps) for row in rows(tmp_path)} == {
        "none": ("tiny", "revision of tiny", 8),
        "base": ("tiny-base", "revision of tiny-base", 28),
    }


def test_labels_and_ids_that_are_no_file_names_do_not_share_a_file(tmp_path):
    settings = [Setting(label="a/b", method="none"), Setting(label="a b", method="none")]
    odd = [PAIRS[0].__class__(**{**vars(PAIRS[0]), "id": name}) for name in ("../x", "x", "🙂")]
    draw(tmp_path, Task(settings, odd, [0], Conditions()))
    files = {(tmp_path / row.image).resolve() for row in rows(tmp_path)}
    assert len(files) == 6
    assert all(file.is_relative_to(tmp_path.resolve() / "images") for file in files)


def test_two_runs_cannot_work_in_one_folder(tmp_path):
    with in_use(tmp_path), pytest.raises(RequestError, match="another run is at work"):
        draw(tmp_path)


def other_suite(count):
    return [replace(pair, id=f"other{index}") for index, pair in enumerate(PAIRS[:count])]


@pytest.mark.parametrize("others", [other_suite(2), [PAIRS[0], *other_suite(1)]], ids=["disjoint", "overlapping"])
def test_prompts_of_two_suites_are_not_pooled_in_one_folder(tmp_path, others):
    draw(tmp_path, replace(TASK, pairs=PAIRS[:3]))
    before = content(tmp_path)
    for settings in (TASK.settings, [VSF.model_copy(update={"label": "new"})]):
        with pytest.raises(
            RequestError, match=r'another suite: the pair "p[01]" is not in the one asked for.*give another'
        ):
            draw(tmp_path, replace(TASK, pairs=others, settings=settings))
    assert content(tmp_path) == before


def test_more_or_fewer_prompts_of_one_suite_may_share_a_folder(tmp_path):
    for count in (3, 5, 2):
        draw(tmp_path, replace(TASK, pairs=PAIRS[:count]))
    assert {row.pair for row in rows(tmp_path)} == {pair.id for pair in PAIRS}


@pytest.mark.parametrize(
    ("limit", "engine"),
    [(1, InProcess()), (3, InProcess()), (4, InProcess()), (3, Processes(2))],
    ids=["one", "three", "four", "three, two processes"],
)
def test_a_limit_draws_so_many_images_and_the_rest_comes_later_as_if_undisturbed(tmp_path, limit, engine):
    draw(tmp_path / "whole")
    for calls in (1, 2):
        run.run(tmp_path / "bits", TASK, engine, lambda done, total: None, limit)
        assert len(rows(tmp_path / "bits")) == calls * limit
    assert run.run(tmp_path / "bits", TASK, InProcess(), lambda done, total: None) == 20
    assert content(tmp_path / "bits") == content(tmp_path / "whole")


def test_a_limit_beyond_what_is_left_draws_the_rest(tmp_path):
    assert run.run(tmp_path, TASK, InProcess(), lambda done, total: None, 99) == 20
