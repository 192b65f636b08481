"""Reserved file names, and files that are written atomically."""

import os
import signal
import subprocess
import sys
import time

import pytest
from PIL import Image

from vsf.generation.files import atomic_write, report_files, reserved_names, sidecar

WRITERS, PICTURES = 20, 5
WRITER = """
import sys, time
from pathlib import Path
from vsf.generation.files import atomic_write, reserved_names
folder, begin, name = Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
time.sleep(max(0, begin - time.time()))
with reserved_names(folder, "car", {pictures}, ".png") as files:
    for number, file in enumerate(files):
        with atomic_write(file) as part:
            part.write_text(f"{{name}} {{number}}")
"""
SLOW_WRITER = """
import sys, time
from pathlib import Path
from PIL import Image
from vsf.generation.metadata import provenance
from vsf.generation.files import reserved_names

def slowly(self, stream, **settings):
    with open(stream, "wb") as out:
        out.write(b"half a picture")
        out.flush()
        print("begun", flush=True)
        time.sleep(60)

with reserved_names(Path(sys.argv[1]), "car", 2, ".png") as (first, second):
    provenance.write(first, Image.new("RGB", (4, 4)), {})
    Image.Image.save = slowly
    provenance.write(second, Image.new("RGB", (4, 4)), {})
"""


def test_twenty_processes_that_write_five_files_each_leave_a_hundred(tmp_path):
    script, begin = WRITER.format(pictures=PICTURES), time.time() + 2
    words = [[sys.executable, "-c", script, str(tmp_path), str(begin), f"writer {name}"] for name in range(WRITERS)]
    runs = [subprocess.Popen(run) for run in words]
    assert [run.wait(timeout=120) for run in runs] == [0] * WRITERS
    texts = [file.read_text() for file in tmp_path.glob("car-*.png")]
    assert sorted(texts) == sorted(f"writer {name} {number}" for name in range(WRITERS) for number in range(PICTURES))
    assert len(list(tmp_path.iterdir())) == WRITERS * PICTURES


def test_a_killed_process_leaves_nothing_that_looks_finished(tmp_path):
    run = subprocess.Popen([sys.executable, "-c", SLOW_WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert run.stdout.readline() == "begun\n"
    run.send_signal(signal.SIGKILL)
    run.wait(timeout=60)
    (finished,) = [file for file in tmp_path.iterdir() if not file.name.startswith(".")]
    assert finished.name == "car-0001.png"
    Image.open(finished).load()
    with reserved_names(tmp_path, "car", 1, ".png") as (file,):
        assert not file.exists()


def test_names_that_exist_or_are_reserved_are_passed_over(tmp_path):
    (tmp_path / "car-0001.png").touch()
    with reserved_names(tmp_path, "car", 2, ".png") as first, reserved_names(tmp_path, "car", 1, ".png") as second:
        assert [file.name for file in (*first, *second)] == ["car-0002.png", "car-0003.png", "car-0004.png"]
    with reserved_names(tmp_path, "car", 1, ".png") as (file,):
        assert file.name == "car-0002.png"
    assert [file.name for file in tmp_path.iterdir()] == ["car-0001.png"]


def test_a_number_is_free_only_where_everything_beside_it_is(tmp_path):
    (tmp_path / "car-0001.json").touch()
    (tmp_path / "car-0002.report.json").touch()

    def beside(file):
        return [sidecar(file), *report_files(file, 1)]

    with reserved_names(tmp_path, "car", 1, ".mp4", beside) as (file,):
        assert file.name == "car-0003.mp4"


def test_a_number_is_reserved_for_every_suffix(tmp_path):
    with (
        reserved_names(tmp_path, "car", 1, ".png") as (picture,),
        reserved_names(tmp_path, "car", 1, ".mp4") as (clip,),
    ):
        assert (picture.stem, clip.stem) == ("car-0001", "car-0002")


def test_a_link_that_leads_nowhere_is_no_free_name(tmp_path):
    (tmp_path / "car-0001.png").symlink_to("nowhere")
    with reserved_names(tmp_path, "car", 1, ".png") as (file,):
        assert file.name == "car-0002.png"


def test_reservations_are_given_up_after_an_error(tmp_path):
    def failing():
        with reserved_names(tmp_path, "car", 3, ".png"):
            assert len(list(tmp_path.iterdir())) == 3
            raise RuntimeError

    with pytest.raises(RuntimeError):
        failing()
    assert os.listdir(tmp_path) == []


def test_a_file_takes_its_place_when_it_is_finished(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("old")
    with atomic_write(file) as part:
        part.write_text("new")
        assert file.read_text() == "old"
    assert file.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.txt"]
