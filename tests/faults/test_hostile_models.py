"""``opera-env restore`` with the files of a hostile model, which come with code of their own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from opera_agents.vlm.agent import SHIPPED
from tests.faults.conftest import Counts
from tests.faults.processes import OPERA_ENV, run


@pytest.mark.parametrize("file", ["config.json", "processor_config.json", "hostile.py"])
def test_restore_never_runs_code_of_a_model_and_asks_no_question(
    file: str, photos: Path, tmp_path: Path, counts: Counts
) -> None:
    """Standard input says yes to every question."""
    folder = Path(shutil.copytree(SHIPPED, tmp_path / "model"))
    code = "from pathlib import Path\nPath(__file__).with_name('code-was-run').touch()\n"
    (folder / "hostile.py" if file == "hostile.py" else tmp_path / "hostile.py").write_text(code)
    if file != "hostile.py":
        values = json.loads((folder / file).read_text())
        names = ("AutoConfig", "AutoProcessor", "AutoTokenizer", "AutoModelForImageTextToText")
        classes = {name: f"{tmp_path}--hostile.Hostile" for name in names}
        (folder / file).write_text(json.dumps(values | {"auto_map": classes, "model_type": "hostile"}))
    target = tmp_path / "restored.png"
    command = ("restore", str(photos / "0.png"), "-o", str(target), "--agent", f"vlm:{folder}")
    yes = f"import sys, io; sys.stdin = io.StringIO('y\\n' * 9); {OPERA_ENV[1]}"
    ended = run((OPERA_ENV[0], yes, *command))
    assert ended.code == 1 and "Traceback" not in ended.err, ended.err
    assert all(text in ended.err.splitlines()[-1] for text in ("error: ", file, "never run")), ended.err
    assert "[y/N]" not in ended.out + ended.err
    assert not target.exists() and not list(tmp_path.rglob("code-was-run"))
    counts("vlm: hostile models refused")
