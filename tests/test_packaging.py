"""What the package index will show: addresses from one constant, and no link that leads nowhere."""

import importlib.util
import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
HOOK = "hatchling.metadata.plugin.interface"


@pytest.fixture
def build(monkeypatch):
    """The build hook, without hatchling, which only a build needs."""
    interface = ModuleType(HOOK)
    interface.MetadataHookInterface = object
    for name in ("hatchling", "hatchling.metadata", "hatchling.metadata.plugin"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, HOOK, interface)
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def targets(text):
    return re.findall(r"\]\(([^)\s]+)\)", text)


def test_with_an_address_every_link_and_picture_is_absolute(build):
    shown = build.readme_for_index(README, "https://example.org/vsf")
    assert len(targets(shown)) == len(targets(README)) > 10
    assert all(target.startswith("https://") for target in targets(shown))
    assert "](https://example.org/vsf/raw/main/docs/images/demo.png)" in shown
    assert "](https://example.org/vsf/blob/main/CHANGELOG.md)" in shown
    assert re.sub(r"\]\([^)\s]+\)", "", shown) == re.sub(r"\]\([^)\s]+\)", "", README)


def test_without_an_address_no_link_leads_nowhere_and_no_picture_is_broken(build):
    shown = build.readme_for_index(README, "")
    assert targets(shown) == []
    assert "![" not in shown
    assert "Changelog · decisions · log of experiments" in shown


def test_a_link_that_is_absolute_already_stays(build):
    for address in ("", "https://example.org/vsf"):
        assert build.readme_for_index("[a](https://b.c/d)", address) == "[a](https://b.c/d)"


def test_the_addresses_come_from_the_one_constant(build, tmp_path):
    assert build.urls("") == {}
    assert all(url.startswith("https://example.org/vsf") for url in build.urls("https://example.org/vsf").values())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {"readme", "urls"} <= set(project["dynamic"])
    assert not {"readme", "urls"} & project.keys()
    hook = build.AddressHook()
    hook.root = str(ROOT)
    metadata = {}
    hook.update(metadata)
    assert metadata["readme"]["text"].startswith("# vsf")
    assert ("urls" in metadata) == bool(build.REPOSITORY)
