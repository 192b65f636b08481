"""The table of what is supported: complete, true, and the one in the documentation."""

import inspect
import re
from contextlib import suppress
from pathlib import Path

import diffusers
import pytest
from packaging.version import Version

from families.harness import registered
from support import host
from vsf.cli import main
from vsf.families import FAMILIES, find_family

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def test_every_family_declares_pipelines_of_its_own():
    declared = [pipeline for family in FAMILIES.values() for pipeline in family.pipelines]
    assert len(declared) == len(set(declared))
    assert all(family.pipelines for family in FAMILIES.values())


@pytest.mark.parametrize(("name", "pipeline"), [(name, each) for name in FAMILIES for each in FAMILIES[name].pipelines])
def test_every_pipeline_of_the_table_takes_a_denoiser_of_its_family(name, pipeline):
    cls = getattr(host, pipeline)
    hints = str(inspect.signature(cls.__init__))
    if hasattr(cls, "default_blocks_name"):  # a modular pipeline, which has the components of its blocks
        blocks = getattr(diffusers, cls.default_blocks_name)()
        hints = str([component.type_hint for component in blocks.expected_components])
    assert any(denoiser in hints for denoiser in FAMILIES[name].denoisers)


def test_what_newer_releases_brought_is_in_the_newest_and_not_in_the_oldest():
    """So that no test is skipped on the newest, and none is on the oldest without need."""
    oldest = re.search(r'"diffusers>=([\d.]+)"', (ROOT / "pyproject.toml").read_text())[1]
    newest = re.search(r"^diffusers==([\d.]+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[1]
    assert all(Version(oldest) < Version(release) <= Version(newest) for release in host.CAME.values())
    assert all(set(family.pipelines_since) <= set(family.pipelines) for family in FAMILIES.values())
    installed = Version(diffusers.__version__)
    assert {name for name in host.CAME if hasattr(diffusers, name)} == {
        name for name, release in host.CAME.items() if Version(release) <= installed
    }


@pytest.mark.parametrize("name", FAMILIES)
def test_the_file_of_a_family_has_at_most_a_hundred_lines(name):
    assert len(inspect.getsource(inspect.getmodule(type(FAMILIES[name]))).splitlines()) <= 100


def test_how_negatives_enter_follows_from_the_family():
    told = {name: FAMILIES[name].negatives_enter for name in ("sd3", "wan", "z_image")}
    assert told == {
        "sd3": "in the text, which attends together with the image",
        "wan": "in the text that the image attends to",
        "z_image": "beside the model, block by block",
    }


def test_the_documentation_has_the_table(capsys):
    with pytest.raises(SystemExit):
        main(["list", "families", "--markdown"])
    table = capsys.readouterr().out
    assert table in (DOCS / "families.md").read_text(), "run vsf list families --markdown, and put it into the page"
    assert len(table.splitlines()) == len(FAMILIES) + 2
    assert all(f"| {name} |" in table for name in FAMILIES)


@pytest.mark.families
def test_the_tests_run_what_the_table_says():
    run = {name: set() for name in FAMILIES}
    for case in [*registered("PIPELINES"), *registered("VARIANTS")]:
        with suppress(pytest.skip.Exception):  # this diffusers is too old for it
            pipe = case.build()
            run[find_family(pipe).name].add(type(pipe).__name__)
    run["sd3"] |= {f"StableDiffusion3{kind}Pipeline" for kind in ("Img2Img", "Inpaint", "ControlNet")}  # test_sd3.py
    run["qwen_image"] |= {f"QwenImage{kind}Pipeline" for kind in ("Edit", "EditPlus", "EditInpaint", "Layered")}
    assert run == {name: {each for each in FAMILIES[name].pipelines if hasattr(diffusers, each)} for name in FAMILIES}
