"""Takes pictures of a page of ``opera-env report``, as a computer and as a telephone show it.

It needs playwright and an installed Chromium, which it finds by its name.

Example:
    python scripts/report_screenshots.py report.html --out docs/figures
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from opera_env.cli.program import run_program
from scripts.demo_screenshots import SCREENS, open_browser, save_picture


@dataclass(frozen=True)
class ReportScreenshots:
    """Takes pictures of a page of opera-env report."""

    page: tyro.conf.Positional[Path]
    """The page."""
    out: Path = Path("docs/figures")
    """Folder of the pictures, report-desktop.jpg and report-telephone.jpg."""
    height: int = 2400
    """Pixels of the page, from its top, that a picture shows."""


def take_pictures(config: ReportScreenshots) -> list[Path]:
    """Writes the pictures; returns their paths."""
    config.out.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    with open_browser() as browser:
        for screen, (width, _) in SCREENS.items():
            page = browser.new_page(viewport={"width": width, "height": config.height})
            page.goto(config.page.resolve(strict=True).as_uri())
            page.wait_for_timeout(3000)  # the figures are drawn by scripts of the page
            paths.append(config.out / f"report-{screen}.jpg")
            save_picture(page.screenshot(), paths[-1])
    return paths


if __name__ == "__main__":
    run_program(ReportScreenshots, take_pictures)
