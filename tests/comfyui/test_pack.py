"""The folder as ComfyUI's registry takes it."""

import json
import re
import tomllib
from pathlib import Path

import pytest

PACK = Path(__file__).parents[2] / "apps" / "comfyui"
WORKFLOWS = PACK / "example_workflows"


def test_the_registry_finds_what_it_asks_for():
    settings = tomllib.loads((PACK / "pyproject.toml").read_text())
    project, comfy = settings["project"], settings["tool"]["comfy"]
    assert len(project["name"]) < 100
    assert not project["name"].lower().startswith("comfyui")
    assert re.fullmatch(r"\d+\.\d+\.\d+", project["version"])
    assert f"## {project['version']}" in (PACK / "CHANGELOG.md").read_text()
    assert project["dependencies"] == ["vsf-guidance"] == (PACK / "requirements.txt").read_text().split()
    assert comfy["requires-comfyui"] == ">=0.8.0"
    assert comfy["PublisherId"]
    assert comfy["DisplayName"]
    assert (PACK / Path(comfy["Icon"]).name).exists()
    assert (PACK / project["license"]["file"]).read_text().startswith("MIT License")


def test_no_module_evaluates_text_or_installs_anything():
    for path in PACK.rglob("*.py"):
        text = path.read_text()
        assert not re.search(r"(?<!\.)\b(eval|exec)\(|subprocess|os\.system|pip install", text), path.name


@pytest.mark.parametrize("path", sorted((WORKFLOWS / "api").glob("*.json")), ids=lambda path: path.stem)
def test_the_ui_form_of_a_workflow_is_that_of_its_api_form(path: Path):
    api, ui = json.loads(path.read_text()), json.loads((WORKFLOWS / path.name).read_text())
    kinds = sorted(node["class_type"] for node in api.values())
    assert sorted(node["type"] for node in ui["nodes"]) == kinds
    assert (WORKFLOWS / f"{path.stem}.jpg").exists()
    inputs = [value for node in api.values() for value in node["inputs"].values()]
    assert len(ui["links"]) == sum(isinstance(value, list) for value in inputs)
    for node in api.values():
        if node["class_type"] == "VSFGuidance":
            values = [value for value in node["inputs"].values() if not isinstance(value, list)]
            (shown,) = [own["widgets_values"] for own in ui["nodes"] if own["type"] == "VSFGuidance"]
            assert shown == values
