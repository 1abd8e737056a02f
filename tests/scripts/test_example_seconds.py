"""Examples are measured, and their rows are rewritten alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from opera_env.errors import SettingError
from scripts.example_seconds import cpu_seconds, write_seconds


def test_the_seconds_are_written_into_the_row_of_the_example(tmp_path: Path) -> None:
    page = tmp_path / "examples.md"
    page.write_text("| [`1.py`](1.py) | One | - |\n| [`2.py`](2.py) | Two | 3 |\n")
    write_seconds(page, "2.py", 7.6)
    write_seconds(page, "1.py", 1.2)
    assert page.read_text() == "| [`1.py`](1.py) | One | 1 |\n| [`2.py`](2.py) | Two | 8 |\n"
    with pytest.raises(SettingError, match=r"3\.py"):
        write_seconds(page, "3.py", 1.0)


def test_the_time_of_the_processor_counts_and_waiting_does_not(tmp_path: Path) -> None:
    busy = "import time\nwhile time.process_time() < 0.3: pass\n"
    (tmp_path / "busy.py").write_text(busy)
    (tmp_path / "waits.py").write_text("import time\ntime.sleep(0.3)\n")
    assert cpu_seconds(tmp_path / "busy.py") > 0.25 > cpu_seconds(tmp_path / "waits.py")
