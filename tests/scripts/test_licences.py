"""The page of licences has every package that opera-env requires, and says what to heed."""

from __future__ import annotations

import re
import tomllib
from email.message import Message
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scripts.licences import LEFT_OUT, dependencies, format_page, heed, licence_of, requirements

ROOT = Path(__file__).resolve().parents[2]


def package(name: str, *headers: tuple[str, str]) -> Any:
    metadata = Message()
    for key, value in (("Name", name), *headers):
        metadata[key] = value
    return SimpleNamespace(metadata=metadata, files=[])


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([("License-Expression", "MIT"), ("License", "BSD")], "MIT"),
        (
            [
                ("Classifier", "License :: OSI Approved"),
                ("Classifier", "License :: OSI Approved :: MIT License"),
            ],
            "MIT License",
        ),
        ([("License", "BSD")], "BSD"),
        ([("License", "Permission is hereby granted\nto any person")], "not stated"),
        ([], "not stated"),
    ],
)
def test_the_licence_is_what_the_metadata_says(headers: list[tuple[str, str]], expected: str) -> None:
    assert licence_of(package("one", *headers)) == expected


def test_what_restricts_the_use_is_marked() -> None:
    assert heed("PolyForm-Noncommercial-1.0.0") == "**non-commercial**"
    assert heed("GNU Lesser General Public License v3 (LGPLv3)") == heed("MPL-2.0 AND MIT") == "copyleft"
    assert heed("Apache-2.0 WITH LLVM-exception") == ""


def test_dependencies_are_followed_with_their_extras_only() -> None:
    assert {"rich", "markdown-it-py", "mdurl"} <= set(dependencies(["rich>=1"]))
    assert "ipywidgets" not in dependencies(["rich>=1"])
    assert "pyyaml" in dependencies(["uvicorn[standard]"]) and "pyyaml" not in dependencies(["uvicorn"])


def test_a_package_is_listed_once_with_the_first_extra_that_needs_it() -> None:
    one, two = package("one", ("License", "MIT")), package("two", ("License", "CC-BY-NC-4.0"))
    text = format_page({"": {"one": one}, "more": {"one": one, "two": two}})
    assert text.count("| one | MIT | |") == 1
    assert text.index("## The extra more") < text.index("| two | CC-BY-NC-4.0 | **non-commercial** |")


def test_the_page_has_all_that_is_required() -> None:
    text = (ROOT / "docs" / "licences.md").read_text()
    listed = {canonicalize_name(name) for name in re.findall(r"^\| ([\w.-]+) \|", text, re.MULTILINE)}
    required = requirements(ROOT / "pyproject.toml")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(required) == {"", *extras} - set(LEFT_OUT)
    for lines in required.values():
        for line in lines:
            assert canonicalize_name(Requirement(line).name) in listed, f"{line}: run scripts/licences.py"
    (row,) = re.findall(r"^\| pyiqa .*$", text, re.MULTILINE)
    assert "**non-commercial**" in row
