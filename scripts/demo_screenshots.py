"""Takes pictures of the page of ``opera-env demo``, as a computer and as a telephone show it.

It needs the extra demo, playwright and an installed Chromium, which it finds by its name.

Example:
    python scripts/demo_screenshots.py --out docs/figures
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from opera_env.cli.program import run_program
from opera_env.demo.server import serve_page
from opera_env.demo.workshop import Workshop
from opera_env.errors import SettingError
from opera_env.settings import PositiveInt, check_settings

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
SCREENS = {"desktop": (1280, 900), "telephone": (390, 844)}
"""Width and height of the screens in CSS pixels."""

_ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")
_TIMEOUT = 300_000
"""Milliseconds after which a step has failed: a busy computer may take minutes to restore."""


@dataclass(frozen=True)
class DemoScreenshots:
    """Takes pictures of the page of opera-env demo."""

    out: Path = Path("docs/figures")
    """Folder of the pictures, demo-desktop.jpg and demo-telephone.jpg."""
    example: PositiveInt = 1
    """Which example of the page is restored."""

    def __post_init__(self) -> None:
        check_settings(self)


def find_chromium() -> str | None:
    """Returns the path of an installed Chromium or Chrome; None if there is none."""
    return next((path for path in map(shutil.which, CHROMIUM) if path), None)


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Starts a browser without a window.

    Raises:
        SettingError: If none is installed.
    """
    from playwright.sync_api import sync_playwright

    path = find_chromium()
    if path is None:
        raise SettingError("browser", "", f"an installed browser: one of {', '.join(CHROMIUM)}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*_ARGUMENTS])
        try:
            yield browser
        finally:
            browser.close()


def open_page(browser: Browser, address: str, screen: str) -> Page:
    """Opens the page on a screen of a given kind.

    Args:
        browser: The browser.
        address: Address of the page.
        screen: A key of ``SCREENS``.
    """
    width, height = SCREENS[screen]
    is_telephone = screen == "telephone"
    context = browser.new_context(
        viewport={"width": width, "height": height}, is_mobile=is_telephone, has_touch=is_telephone
    )
    context.set_default_timeout(_TIMEOUT)
    page = context.new_page()
    page.goto(address)
    page.locator("#restore").wait_for()
    return page


def restore(page: Page) -> None:
    """Presses the button, and waits for the result."""
    page.locator("#restore").click()
    page.locator("#plan .chips").wait_for()
    page.locator("#before-after img").first.wait_for()


def save_picture(screenshot: bytes, path: Path) -> None:
    """Writes a screenshot, which is a PNG file, as a JPEG file, and prints its size."""
    picture = Image.open(io.BytesIO(screenshot)).convert("RGB")
    picture.save(path, quality=72, optimize=True)
    print(f"{path}: {picture.width} x {picture.height}", flush=True)


def take_pictures(config: DemoScreenshots) -> list[Path]:
    """Restores an example on each screen, and writes the pictures; returns their paths."""
    config.out.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    with serve_page(Workshop(), port=0, mcp=False) as address, open_browser() as browser:
        for screen in SCREENS:
            page = open_page(browser, address, screen)
            page.locator("#examples button").nth(config.example - 1).click()
            page.locator("#photograph img").wait_for()
            restore(page)
            page.wait_for_timeout(1000)  # the end of animations
            paths.append(config.out / f"demo-{screen}.jpg")
            save_picture(page.screenshot(full_page=screen == "telephone"), paths[-1])
    return paths


if __name__ == "__main__":
    run_program(DemoScreenshots, take_pictures)
