"""ComfyUI's page in a headless browser. As a command, it writes the UI forms and thumbnails of the example workflows.

COMFYUI_PATH=... PYTHONPATH=src:tests:apps/comfyui python -m comfyui.page
"""

import json
import shutil
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from comfyui.server import PACK, ROOT, Server

BROWSER = shutil.which("chromium")
WORKFLOWS = PACK / "example_workflows"
SCREENSHOT = ROOT / "docs" / "images" / "comfyui.png"
_READY = "window.app && window.app.graph && window.app.extensionManager && window.LiteGraph"

_KEEP_SEEDS = """
for (const node of window.app.graph.nodes)
  for (const widget of node.widgets ?? [])
    if (widget.name === "control_after_generate") widget.value = "fixed";
"""

_SHOW_ALL = """
async () => {
  const app = window.app;
  for (const [name, value] of [["Comfy.Minimap.Visible", false], ["LiteGraph.Canvas.MinFontSizeForLOD", 0]])
    await app.extensionManager.setting.set(name, value);
  app.canvas.low_quality_zoom_threshold = 0;
  app.graph.arrange();
  await app.extensionManager.command.execute("Comfy.Canvas.FitView");
  app.graph.setDirtyCanvas(true, true);
}
"""


class Page:
    """The page of a server."""

    def __init__(self, page, server: Server) -> None:
        self.page = page
        self.server = server
        self.errors = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.goto(server.url, wait_until="domcontentloaded", timeout=180_000)
        page.wait_for_function(_READY, timeout=180_000)
        page.wait_for_function("Object.keys(window.LiteGraph.registered_node_types).length > 300", timeout=180_000)
        time.sleep(3)
        page.keyboard.press("Escape")

    def load(self, flow: dict, name: str) -> dict:
        """Load a workflow in API form, lay it out, and return its UI form."""
        self.page.evaluate("([flow, name]) => window.app.loadApiJson(flow, name)", [flow, name])
        time.sleep(2)
        self.page.keyboard.press("Escape")
        self.page.evaluate(_KEEP_SEEDS)
        self.page.evaluate("window.app.graph.arrange()")
        return self.page.evaluate("async () => (await window.app.graphToPrompt()).workflow")

    def load_ui(self, workflow: dict) -> dict:
        """Load a workflow in UI form and return its API form."""
        self.page.evaluate("workflow => window.app.loadGraphData(workflow)", workflow)
        time.sleep(2)
        return self.page.evaluate("async () => (await window.app.graphToPrompt()).output")

    def queue(self) -> dict:
        """Queue the loaded workflow, wait for its end, and return its entry in the history."""
        before = set(self.server.call("/history"))
        self.page.evaluate("window.app.queuePrompt(0)")
        end = time.monotonic() + 300
        while time.monotonic() < end:
            new = {number: history for number, history in self.server.call("/history").items() if number not in before}
            for history in new.values():
                return history
            time.sleep(0.3)
        raise RuntimeError("the queued workflow does not end")

    def screenshot(self, path: Path, quality: int | None = None) -> None:
        """Fit the graph into the window and save a picture."""
        self.page.keyboard.press("Escape")
        self.page.evaluate(_SHOW_ALL)
        time.sleep(4)
        kind = {"type": "jpeg", "quality": quality} if quality else {}
        self.page.screenshot(path=str(path), **kind)


@contextmanager
def opened(server: Server, width: int = 1800, height: int = 760):
    """Open a page of a server in a browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield Page(browser.new_page(viewport={"width": width, "height": height}), server)
        browser.close()


def main() -> None:
    """Write the files that are derived from the API forms."""
    server = Server(Path(tempfile.mkdtemp()) / "base")
    try:
        with opened(server) as page:
            for path in sorted((WORKFLOWS / "api").glob("*.json")):
                workflow = page.load(json.loads(path.read_text()), path.stem)
                (WORKFLOWS / path.name).write_text(json.dumps(workflow, separators=(",", ":")) + "\n")
                if path.stem == "tiny":
                    page.queue()
                    time.sleep(3)
                    page.screenshot(SCREENSHOT)
                page.screenshot(WORKFLOWS / f"{path.stem}.jpg", quality=60)
                print(path.stem, page.errors)
    finally:
        server.close()


if __name__ == "__main__":
    main()
