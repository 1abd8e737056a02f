"""A picture sheet of a comparison: samples in rows, the results of the agents in columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from opera_env.data.images import resize, to_pil
from opera_env.degradations import benchmark_group
from opera_env.evaluation.compare import Comparison, Record
from opera_env.execution import Executor
from opera_env.files import atomic_write
from opera_env.tools import Toolbox
from opera_env.types import Plan, Sample

MAX_ROWS = 16
"""Maximum number of samples on a sheet; the first ones are shown."""

MAX_BYTES = 4_000_000
"""Size of a file in bytes above which the JPEG quality is lowered."""

_CELL, _GAP, _MARGIN = 180, 8, 12
"""Width of an image, space between images, and space around the sheet, in pixels."""

_TITLE_SIZE, _REWARD_SIZE, _PLAN_SIZE = 17, 15, 13
_LINE = 16
"""Height of a line of text, in pixels."""
_UNTOUCHED = "untouched"
_BLACK, _GREY, _BEST = (0, 0, 0), (70, 70, 70), (0, 110, 40)


@dataclass(frozen=True)
class _Cell:
    """One cell of a sheet: an image and the text below it.

    Attributes:
        image: The image, scaled to the width of a column.
        heading: The reward; empty for the reference.
        lines: Tools of the plan, or the degradations of the input, one per line.
        is_best: Whether no other agent has a higher reward on this sample.
    """

    image: Image.Image
    heading: str
    lines: list[str]
    is_best: bool = False


def draw_sheet(comparison: Comparison, samples: Sequence[Sample], toolbox: Toolbox) -> Image.Image:
    """Draws the input, the result of each agent with its plan and reward, and the reference.

    The agent ``untouched`` has no column: its reward is written below the input.

    Args:
        comparison: The records of all agents.
        samples: The samples of the comparison, in its order; the first :data:`MAX_ROWS` are shown.
        toolbox: The tools, which run the plans again.
    """
    by_agent: dict[str, list[Record]] = {}
    for record in comparison.records:
        by_agent.setdefault(record.agent, []).append(record)
    shown = list(samples)[:MAX_ROWS]
    names = [name for name in by_agent if name != _UNTOUCHED]
    images = _run_plans(shown, by_agent.values(), toolbox)
    rows: list[list[_Cell]] = []
    for index, sample in enumerate(shown):
        records = {name: agent_records[index] for name, agent_records in by_agent.items()}
        rows.append(_row(sample, records, names, images))
    columns = [(name, _mean_reward(by_agent[name])) for name in names]
    columns.insert(0, ("input", _mean_reward(by_agent[_UNTOUCHED]) if _UNTOUCHED in by_agent else ""))
    if shown[0].reference is not None:
        columns.append(("reference", ""))
    title = (
        f"The first {len(shown)} of {len(samples)} samples" if len(shown) < len(samples) else "All samples"
    )
    title += " of the comparison. Below each image: its reward and the tools of the plan in order."
    return _draw(title, columns, rows)


def _mean_reward(records: Sequence[Record]) -> str:
    return f"mean {sum(record.reward for record in records) / len(records):.2f}"


def write_sheet(sheet: Image.Image, path: Path) -> None:
    """Writes a sheet in the format that the name says; see :func:`encode_sheet`."""
    with atomic_write(path) as part:
        part.write_bytes(encode_sheet(sheet, path))


def encode_sheet(sheet: Image.Image, path: Path) -> bytes:
    """Returns a sheet as JPEG of at most :data:`MAX_BYTES`, or as PNG if the name ends in ``.png``."""
    data = BytesIO()
    if path.suffix.lower() == ".png":
        sheet.save(data, "PNG", optimize=True)
        return data.getvalue()
    for quality in (92, 85, 75, 60):
        data = BytesIO()
        sheet.save(data, "JPEG", quality=quality, optimize=True)
        if data.tell() <= MAX_BYTES:
            break
    return data.getvalue()


def _run_plans(
    samples: Sequence[Sample], records: Iterable[Sequence[Record]], toolbox: Toolbox
) -> dict[tuple[str, Plan], Tensor]:
    """Returns the result of each plan at canvas size, by key of the sample and plan."""
    pairs = [
        (sample, agent_records[index].plan)
        for agent_records in records
        for index, sample in enumerate(samples)
    ]
    results = Executor(toolbox).run([sample for sample, _ in pairs], [plan for _, plan in pairs])
    return {
        (result.sample.key, result.plan): resize(result.image[None], result.sample.canvas)[0].cpu()
        for result in results
    }


def _row(
    sample: Sample,
    records: Mapping[str, Record],
    names: Sequence[str],
    images: Mapping[tuple[str, Plan], Tensor],
) -> list[_Cell]:
    best = max(record.reward for record in records.values())
    group = benchmark_group(sample.spec.recipe)
    recipe = [f"{number} {name}" for number, name in enumerate(sample.spec.recipe, 1)]
    untouched = records.get(_UNTOUCHED)
    cells = [
        _Cell(
            _thumbnail(resize(sample.lq[None], sample.canvas)[0]),
            "" if untouched is None else f"{untouched.reward:.2f}",
            [f"group {group}" if group else "degraded by", *recipe] if recipe else ["degradations unknown"],
            untouched is not None and untouched.reward == best,
        )
    ]
    for name in names:
        record = records[name]
        lines = [f"{number} {tool}" for number, tool in enumerate(record.plan, 1)] or ["no tool"]
        heading = f"{record.reward:.2f}"
        thumbnail = _thumbnail(images[sample.key, record.plan])
        cells.append(_Cell(thumbnail, heading, lines, record.reward == best))
    if sample.reference is not None:
        cells.append(_Cell(_thumbnail(sample.reference), "", []))
    return cells


def _thumbnail(image: Tensor) -> Image.Image:
    pil_image = to_pil(image)
    height = max(1, min(2 * _CELL, round(pil_image.height * _CELL / pil_image.width)))
    return pil_image.resize((_CELL, height), Image.Resampling.LANCZOS)


def _draw(title: str, columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[_Cell]]) -> Image.Image:
    """Draws the title, the headings of the columns with a line below each, and the rows."""
    heights = [
        max(cell.image.height + (1 + len(cell.lines)) * _LINE for cell in row) + 2 * _GAP for row in rows
    ]
    header = 4 * _LINE + 3 * _GAP
    width = 2 * _MARGIN + len(columns) * (_CELL + _GAP) - _GAP
    sheet = Image.new("RGB", (width, 2 * _MARGIN + header + sum(heights)), "white")
    draw = ImageDraw.Draw(sheet)
    lefts = [_MARGIN + column * (_CELL + _GAP) for column in range(len(columns))]
    draw.text((_MARGIN, _MARGIN), title, fill="black", font=ImageFont.load_default(_REWARD_SIZE))
    for left, (heading, subheading) in zip(lefts, columns, strict=True):
        _text(draw, (left, _MARGIN + 2 * _LINE), heading, _TITLE_SIZE)
        _text(draw, (left, _MARGIN + 3 * _LINE + _GAP), subheading, _PLAN_SIZE, _GREY)
    top = _MARGIN + header
    for row, height in zip(rows, heights, strict=True):
        for left, cell in zip(lefts, row, strict=True):
            sheet.paste(cell.image, (left, top))
            line = top + cell.image.height + 3
            if cell.heading:
                text, colour = (f"{cell.heading}  best", _BEST) if cell.is_best else (cell.heading, _BLACK)
                _text(draw, (left, line), text, _REWARD_SIZE, colour)
                line += _LINE + 2
            for text in cell.lines:
                _text(draw, (left, line), text, _PLAN_SIZE, _GREY)
                line += _LINE
        top += height
    return sheet


def _text(
    draw: ImageDraw.ImageDraw,
    position: tuple[int, int],
    text: str,
    size: int,
    fill: tuple[int, int, int] = _BLACK,
) -> None:
    """Writes a line that is no wider than an image: in a smaller font, or without its beginning."""
    font = ImageFont.load_default(size)
    while font.getlength(text) > _CELL and size > 10:
        size -= 1
        font = ImageFont.load_default(size)
    while font.getlength(text) > _CELL:
        text = "..." + text.removeprefix("...")[1:]
    draw.text(position, text, fill=fill, font=font)
