"""The documentation site has every page and every module; ``make docs`` builds it without warnings."""

from __future__ import annotations

import runpy
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sphinx", reason="the site needs the extra docs")

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def conf() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "docs" / "conf.py"))


def test_the_navigation_has_every_page_once(conf: dict[str, Any]) -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("examples/*/README.md")]
    names = {path.relative_to(ROOT).with_suffix("").as_posix() for path in pages}
    patterns = [page for group in conf["NAVIGATION"].values() for pages in group.values() for page in pages]
    for name in names - {conf["root_doc"]}:
        found = sum(fnmatch(name, pattern) for pattern in patterns)
        assert found == 1, f"{name} is {found} times in NAVIGATION of docs/conf.py: add the page there"
    for pattern in patterns:
        assert pattern == "docs/reference/index" or any(fnmatch(name, pattern) for name in names), pattern


def test_every_module_is_on_the_page_of_its_package(tmp_path: Path, conf: dict[str, Any]) -> None:
    conf["write_reference_pages"](tmp_path)
    for top, folder in (("opera_env", ROOT), ("opera_agents", ROOT / "agents")):
        for path in (folder / top).rglob("*.py"):
            module = ".".join(path.relative_to(folder).with_suffix("").parts).removesuffix(".__init__")
            package = module if path.name == "__init__.py" else module.rpartition(".")[0]
            if path.name != "__main__.py":
                text = (tmp_path / f"{package}.rst").read_text()
                assert f".. automodule:: {module}\n" in text, module


def test_pages_of_packages_that_are_gone_are_removed(tmp_path: Path, conf: dict[str, Any]) -> None:
    (tmp_path / "opera_env.gone.rst").write_text("old")
    conf["write_reference_pages"](tmp_path)
    assert not (tmp_path / "opera_env.gone.rst").exists()
    assert "opera_env.envs" in (tmp_path / "index.rst").read_text()


def test_docstrings_are_prepared(conf: dict[str, Any]) -> None:
    prepare = conf["prepare_docstring"]
    lines = [
        "Does it.",
        "",
        "Example:",
        "    python -m opera_agents.joint --images a",
        "",
        "Example:",
        "    >>> 1",
    ]
    prepare(None, "function", "opera_env.x", None, None, lines)
    assert [line for line in lines if line.startswith("Example")] == ["Example::", "Example:"]
    lines = ["Names of **/*.tif files"]
    prepare(None, "attribute", "opera_env.cli.options.x", None, None, lines)
    assert lines == [r"Names of \*\*/\*.tif files"]
    lines = ["those of the study.", "", ":type: Recipes"]
    conf["restore_first_line"](None, "attribute", "x", None, None, lines)
    assert lines == ["Recipes: those of the study.", ""]
