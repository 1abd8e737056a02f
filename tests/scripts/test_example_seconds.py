"""Examples are measured, and their rows and outputs are rewritten alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from opera_env.errors import SettingError
from scripts.example_seconds import Run, run_example, shorten_line, write_run

PAGE = """| [`1.py`](1.py) | One | - |
| [`2.py`](2.py) | Two | 3 |
| [`3.py`](3.py) | Three | 4 |
| [`5.py`](5.py) | Five | 4 |

### 1.py

### 2.py

```text
old
```

The end.

### 5.py
"""


def test_the_seconds_and_the_output_are_written_into_the_places_of_the_example(tmp_path: Path) -> None:
    page = tmp_path / "examples.md"
    page.write_text(PAGE)
    write_run(page, "2.py", Run(7.6, "new\\1\n", ()))
    write_run(page, "1.py", Run(1.2, "one\n\n", ()))
    write_run(page, "5.py", Run(4.0, "last", ()))
    expected = PAGE.replace("One | -", "One | 1").replace("Two | 3", "Two | 8").replace("old", "new\\1")
    expected += "\n```text\nlast\n```\n"
    assert page.read_text() == expected.replace("### 1.py\n\n", "### 1.py\n\n```text\none\n```\n\n")
    with pytest.raises(SettingError, match=r"heading 3\.py"):
        write_run(page, "3.py", Run(1.0, "", ()))
    with pytest.raises(SettingError, match=r"row about 4\.py"):
        write_run(page, "4.py", Run(1.0, "", ()))


def test_the_time_of_the_processor_counts_and_waiting_does_not(tmp_path: Path) -> None:
    busy = "import time\nwhile time.process_time() < 0.3: pass\n"
    (tmp_path / "busy.py").write_text(busy)
    (tmp_path / "waits.py").write_text("import time\ntime.sleep(0.3)\n")
    assert run_example(tmp_path / "busy.py").seconds > 0.25 > run_example(tmp_path / "waits.py").seconds


def test_output_and_pictures_are_kept_without_names_of_temporary_folders(tmp_path: Path) -> None:
    (tmp_path / "writes.py").write_text(
        "from tempfile import mkdtemp\nfrom PIL import Image\n"
        "print(f'in {mkdtemp()}')\nImage.new('RGB', (8, 4)).save('a.png')\n"
    )
    run = run_example(tmp_path / "writes.py")
    assert run.printed == "in FOLDER"
    assert [picture.size for picture in run.pictures] == [(8, 4)]


def test_long_lines_take_at_most_three_lines() -> None:
    assert shorten_line("a  b", 10) == "a  b"
    assert shorten_line("aaa bbb ccc", 10) == "aaa\nbbb\nccc"
    assert shorten_line("aaa bbb ccc ddd", 10) == "aaa\nbbb\nccc ..."
