"""A real page in headless Chromium: the example workflow loads, is queued, and its picture is there."""

import json

import pytest

from comfyui.hosts import HAS_HOST, NO_HOST
from comfyui.page import BROWSER, WORKFLOWS, opened
from comfyui.server import Server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not HAS_HOST, reason=NO_HOST),
    pytest.mark.skipif(BROWSER is None, reason="needs chromium on the PATH"),
    pytest.mark.timeout(900),
]


def test_the_tiny_workflow_loads_runs_and_shows_its_picture(tmp_path):
    pytest.importorskip("playwright")
    server = Server(tmp_path / "base")
    try:
        with opened(server) as page:
            api = json.loads((WORKFLOWS / "api" / "tiny.json").read_text())
            ui = json.loads((WORKFLOWS / "tiny.json").read_text())
            assert inputs(page.load_ui(ui)) == inputs(api), "the UI form means what the API form says"
            history = page.queue()
            assert history["status"]["status_str"] == "success", history["status"]
            images = [image for output in history["outputs"].values() for image in output.get("images", ())]
            assert len(images) == 2
            assert page.errors == []
    finally:
        server.close()


def inputs(flow: dict) -> list:
    """Return what every node is given, whatever its number; a page writes 1.0 as 1."""
    nodes = []
    for node in flow.values():
        values = {name: value for name, value in node["inputs"].items() if not linked(value)}
        for name, value in values.items():
            if isinstance(value, float) and value.is_integer():
                values[name] = int(value)
        nodes.append((node["class_type"], sorted((name, str(value)) for name, value in values.items())))
    return sorted(nodes)


def linked(value) -> bool:
    return isinstance(value, list)
