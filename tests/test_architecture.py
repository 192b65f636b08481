"""docs/architecture.md follows three values through the code; here the code is run and must pass the same places."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import vsf
from support import tiny_pipelines as tiny

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
PACKAGE = Path(vsf.__file__).parent
STATION = re.compile(r"^\d+\. `(?P<file>[\w/]+\.py)` `(?P<name>[\w.]+)`", re.MULTILINE)
"""A line of a walk, such as "3. `families/sd3.py` `StableDiffusion3.encode` ..."."""


def stations(heading):
    """The (file, function) pairs of one walk."""
    section = PAGE.split(f"### {heading}\n", 1)[1].split("\n#", 1)[0]
    return [(line["file"], line["name"]) for line in STATION.finditer(section)]


class FirstCalls:
    """In which order functions of the package are first called."""

    def __init__(self):
        self.order = []
        self._seen = set()

    def __call__(self, frame, event, argument):
        if event != "call" or not frame.f_code.co_filename.startswith(str(PACKAGE)):
            return
        file = Path(frame.f_code.co_filename).relative_to(PACKAGE).as_posix()
        place = file, frame.f_code.co_qualname.replace("<locals>.", "")
        if place not in self._seen:
            self._seen.add(place)
            self.order.append(place)

    def run(self, action):
        sys.setprofile(self)
        try:
            action()
        finally:
            sys.setprofile(None)
        return self.order


def assert_passes(order, walk):
    """Every station is called, and none for the first time before the one above it."""
    places = [order.index(station) if station in order else None for station in walk]
    missing = [station for station, place in zip(walk, places, strict=True) if place is None]
    assert missing == []
    assert places == sorted(places)


def test_a_negative_prompt_goes_the_way_that_the_page_tells():
    pipe = tiny.sd3()

    def act():
        with vsf.guide(pipe, "wheels"):
            tiny.call(pipe)

    walk = stations("A negative prompt, from `vsf.guide` to the kernel")
    assert len(walk) >= 8
    assert_passes(FirstCalls().run(act), walk)


# A profiled import takes many times as long, so that what is not ours is imported before.
IMPORTS = """
import sys
import matplotlib.pyplot, scipy.stats, torch
from diffusers import AutoencoderTiny, SD3Transformer2DModel, StableDiffusion3Pipeline
from transformers import CLIPTextModelWithProjection, CLIPTokenizer
sys.path[:0] = {path!r}
from test_architecture import FirstCalls
"""
SCALE = """
from vsf.cli import main

def act():
    try:
        main(["generate", "a red car", "--negative", "wheels", "--scale", "2", "--steps", "2", "--out", {out!r}])
    except SystemExit as done:
        assert done.code in (0, None), done.code

for file, name in FirstCalls().run(act):
    print(file, name)
"""


def first_calls(script, tmp_path):
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    return [(line[0], line[1]) for line in lines if len(line) == 2 and line[0].endswith(".py")]


def test_a_scale_goes_the_way_that_the_page_tells(tmp_path):
    script = IMPORTS.format(path=[str(ROOT / "tests")]) + SCALE.format(out=str(tmp_path / "car.png"))
    walk = stations("A `--scale`, from the flag to the kernel")
    assert len(walk) >= 8
    assert_passes(first_calls(script, tmp_path), walk)


BENCH = """
from vsf.cli import main

def act():
    drawn = ["--suite", "tiny-dev", "--limit", "1", "--seeds", "1", "--steps", "2", "--workers", "1"]
    drawn += ["--methods", "vsf"]
    for words in (["run", *drawn, "--out", {out!r}], ["judge", "--out", {out!r}], ["report", {out!r}]):
        try:
            main(["bench", *words])
        except SystemExit as done:
            assert done.code in (0, None), done.code

for file, name in FirstCalls().run(act):
    print(file, name)
"""


def test_a_row_goes_the_way_that_the_page_tells(tmp_path):
    script = IMPORTS.format(path=[str(ROOT / "tests")]) + BENCH.format(out=str(tmp_path / "rows"))
    walk = stations("A row of the benchmark, from the plan to the report")
    assert len(walk) >= 8
    assert_passes(first_calls(script, tmp_path), walk)


NAMED = set(re.findall(r"`((?:src|tests|apps|benchmarks)/[\w/.-]+)`", PAGE))


@pytest.mark.parametrize("file", sorted(name for name in NAMED if "NAME" not in name))
def test_every_file_that_the_page_names_is_there(file):
    assert (ROOT / file).exists()
