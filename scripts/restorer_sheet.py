"""Draws photographs before and after several restorers and classical methods, one row for each photograph.

Example:
    python scripts/restorer_sheet.py photos --restorers planner@lite-cotrained detect@lite --out sheet.jpg
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import tyro
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from opera_baselines.classical import CLASSICAL, classical_toolbox
from opera_env.cli.program import run_program
from opera_env.data.images import list_images, resize, to_pil
from opera_env.data.read import read_photo
from opera_env.errors import SettingError
from opera_env.evaluation.sheet import write_sheet
from opera_env.restoration import DEFAULT_AGENT, DEFAULT_TOOLBOX, Restorer, RestorerConfig
from opera_env.restoration.explanation import format_plan
from opera_env.settings import PositiveInt, check_settings
from opera_env.tools import Toolbox

_LINE = 16
"""Height of a line of text, in pixels."""

Restore = Callable[[Tensor], tuple[Tensor, str]]
"""Restores an image, float32 (3, H, W), and says what was done."""


@dataclass(frozen=True)
class RestorerSheet:
    """Draws photographs before and after several restorers."""

    photographs: tyro.conf.Positional[Path]
    """Folder of photographs."""
    restorers: tuple[str, ...] = (f"{DEFAULT_AGENT}@{DEFAULT_TOOLBOX}",)
    """Agents with their toolboxes, as AGENT@TOOLBOX: names or folders."""
    classical: tuple[str, ...] = tuple(name for name in CLASSICAL if name != "classical.wavelet")
    """Classical methods; classical.wavelet needs PyWavelets."""
    out: Path = Path("sheet.jpg")
    """File to write, JPEG or PNG."""
    width: PositiveInt = 240
    """Width of each image on the sheet in pixels."""
    trust_code: bool = False
    """Run what a toolbox folder names: code of your own (module:attribute), programs and served tools."""

    def __post_init__(self) -> None:
        check_settings(self)
        for name in self.restorers:
            if not all(name.rpartition("@")[::2]):
                raise SettingError("restorers", name, "AGENT@TOOLBOX, such as planner@lite-cotrained")


def make_restorers(config: RestorerSheet) -> dict[str, Restore]:
    """Returns the restorers by their captions.

    Raises:
        UnknownToolError: If there is no such classical method.
    """
    restorers: dict[str, Restore] = {}
    for name in config.restorers:
        agent, _, toolbox = name.rpartition("@")
        loaded = Toolbox.load(toolbox, trust_code=config.trust_code)
        restorers[name] = _by(Restorer(loaded, RestorerConfig(agent=agent)))
    classical = classical_toolbox()
    for name in config.classical:
        restorers[name] = _by(Restorer(classical, RestorerConfig(plan=(name,))))
    return restorers


def _by(restorer: Restorer) -> Restore:
    def restore(image: Tensor) -> tuple[Tensor, str]:
        result = restorer.restore(image)
        return result.image, format_plan(result.decision.plan)

    return restore


def draw(config: RestorerSheet) -> None:
    """Restores the photographs and draws the sheet."""
    restorers = make_restorers(config)
    rows = [_draw_row(path, restorers, config.width) for path in list_images(config.photographs)]
    sheet = Image.new("RGB", (rows[0].width, sum(row.height for row in rows)), "white")
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height
    write_sheet(sheet, config.out)


def _draw_row(path: Path, restorers: dict[str, Restore], width: int) -> Image.Image:
    """Draws a photograph and its restorations side by side, below the names of the restorers."""
    image = read_photo(path).tensor()
    shown = [("before", path.name, image)]
    for name, restore in restorers.items():
        restored, plan = restore(image)
        shown.append((name, "" if plan == name else plan, restored))
    size = (max(1, round(image.shape[-2] * width / image.shape[-1])), width)
    row = Image.new("RGB", (len(shown) * (width + 4), size[0] + 2 * _LINE + 6), "white")
    drawn, font = ImageDraw.Draw(row), ImageFont.load_default(11)
    for column, (title, text, picture) in enumerate(shown):
        left = column * (width + 4)
        drawn.text((left, 0), title, fill="black", font=font)
        drawn.text((left, _LINE), text, fill="grey", font=font)
        row.paste(to_pil(resize(picture[None], size)[0].clamp(0, 1)), (left, 2 * _LINE))
    return row


if __name__ == "__main__":
    run_program(RestorerSheet, draw)
