"""The table of what is supported: complete, true, and the one in the documentation."""

import inspect
from pathlib import Path

import diffusers
import pytest

from families.harness import registered
from vsf.cli import catalogue, main
from vsf.families import FAMILIES, find_family
from vsf.families.support import SUPPORT, entrance, pipelines

DOCS = Path(__file__).parents[2] / "docs"


def test_every_family_is_in_the_table():
    assert list(SUPPORT) == list(FAMILIES)


@pytest.mark.parametrize("name", SUPPORT)
def test_every_pipeline_of_the_table_takes_a_denoiser_of_its_family(name):
    for pipeline in pipelines(name):
        hints = str(inspect.signature(getattr(diffusers, pipeline).__init__))
        assert any(denoiser in hints for denoiser in FAMILIES[name].denoisers), pipeline


def test_how_negatives_enter_follows_from_the_family():
    told = {name: entrance(FAMILIES[name]) for name in ("sd3", "wan", "z_image")}
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
    assert catalogue.KINDS["families"]()[0]["family"] in table


@pytest.mark.families
def test_the_tests_run_what_the_table_says():
    run = {name: set() for name in FAMILIES}
    for case in [*registered("PIPELINES"), *registered("VARIANTS")]:
        pipe = case.build()
        run[find_family(pipe).name].add(type(pipe).__name__)
    run["sd3"] |= {f"StableDiffusion3{kind}Pipeline" for kind in ("Img2Img", "Inpaint", "ControlNet")}  # test_sd3.py
    assert run == {name: set(pipelines(name)) for name in FAMILIES}
