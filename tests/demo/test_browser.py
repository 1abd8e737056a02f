"""A person's way through the page in a browser, on a computer and on a telephone."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if find_spec("gradio") is None:  # not imported here, as the page sets variables before
    pytest.skip("the page needs the extra demo", allow_module_level=True)
sync_api = pytest.importorskip("playwright.sync_api", reason="the test needs playwright")

from opera_env.demo.server import serve_page  # noqa: E402
from opera_env.demo.workshop import Workshop  # noqa: E402
from scripts.demo_screenshots import SCREENS, find_chromium, open_browser, open_page, restore  # noqa: E402

if TYPE_CHECKING:
    from playwright.sync_api import Browser, FloatRect, Page

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_chromium() is None, reason="the test needs an installed Chromium"),
]

DROP = """([area, name, content]) => {
    const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
    const dropped = new DataTransfer();
    dropped.items.add(new File([bytes], name, {type: "image/png"}));
    for (const kind of ["dragenter", "dragover", "drop"])
        area.dispatchEvent(new DragEvent(kind, {dataTransfer: dropped, bubbles: true, cancelable: true}));
}"""
"""Does what the browser does when a file is dropped on an element."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serve_page(Workshop(max_megapixels=0.2, max_tools=3), port=0, mcp=False) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as browser:
        yield browser


def box_of_divider(page: Page) -> FloatRect:
    divider = page.locator("#before-after .outer")
    divider.scroll_into_view_if_needed()
    box = divider.bounding_box()
    assert box is not None
    return box


@pytest.mark.parametrize("screen", SCREENS)
def test_a_dropped_photograph_is_restored_and_compared_by_the_slider(
    address: str, browser: Browser, photograph: Path, screen: str
) -> None:
    page = open_page(browser, address, screen)
    requested: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))

    content = base64.b64encode(photograph.read_bytes()).decode()
    area = page.locator("#photograph button").first
    page.evaluate(DROP, [area.element_handle(), photograph.name, content])
    page.locator("#photograph img").wait_for()
    restore(page)
    assert page.locator("#plan .chip").count() >= 1
    assert "Critic:" in page.locator("#report").inner_text()

    before = box_of_divider(page)
    page.mouse.move(before["x"] + before["width"] / 2, before["y"] + before["height"] / 2)
    page.mouse.down()
    page.mouse.move(before["x"] + 60, before["y"] + before["height"] / 2, steps=5)
    page.mouse.up()
    assert box_of_divider(page)["x"] > before["x"] + 30

    overflow = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert overflow <= 0, "the page is wider than the screen"
    assert not errors
    assert all(url.startswith((address, "data:", "blob:")) for url in requested), "all from this machine"
    page.context.close()
