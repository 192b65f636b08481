"""The report's page as a browser shows it."""

import shutil

import pytest

from support import judged_folder
from vsf.bench import report

BROWSER = shutil.which("chromium")
EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)> & <b>bold</b>"
CHANCES = {f"NAG++ scale={scale}": ("nag", 1 - scale / 20, scale / 10, 0.5) for scale in range(1, 7)}

pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="needs chromium on the PATH")]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    pairs = [judged_folder.pair(index, f"{EVIL} {index}") for index in range(12)]
    judged_folder.write(folder, CHANCES, pairs, reason=EVIL)
    return report.build(folder).page.as_uri()


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.mark.parametrize("width", [400, 1200, 1920])
def test_the_page_loads_nothing_runs_nothing_and_fits(browser, address, width):
    page = browser.new_page(viewport={"width": width, "height": 900})
    asked, dialogs, errors = [], [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.goto(address)
    assert [url for url in asked if not url.startswith("data:")] == [address]
    assert (dialogs, errors) == ([], [])
    assert EVIL in page.inner_text("body")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.images.length") > 0
    page.evaluate("Promise.all([...document.images].map(image => { image.loading = 'eager'; return image.decode() }))")
    page.close()
