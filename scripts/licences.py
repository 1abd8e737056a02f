"""Writes the page of the licences of all packages that opera-env needs, from what is installed here.

Run make setup first, which installs everything.

Example:
    python scripts/licences.py --out docs/licences.md
"""

from __future__ import annotations

import re
import tomllib
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from opera_env.cli.program import run_program
from opera_env.files import atomic_write

LEFT_OUT = ("dev", "all")
"""Extras that the page leaves out: what developers need, and what others have."""

KNOWN = {"nvidia": "NVIDIA, proprietary", "cuda-toolkit": "NVIDIA, proprietary"}
"""Licences that metadata leaves out, by the beginning of the name."""

RESTRICTED = {
    r"non-?commercial|CC-BY-NC|PolyForm": "**non-commercial**",
    r"\b(AGPL|GPL|LGPL|MPL)|GNU|Mozilla": "copyleft",
    r"proprietary": "proprietary",
}
"""What to heed, by a pattern of the licence; the first that is found counts."""

_HEAD = """\
# Licences

opera-env is under the Apache License 2.0, weights and statistics included. It installs the packages
below, which are not part of it. The list is what their metadata says, written by `python
scripts/licences.py`; the text of each licence comes with the package.

**pyiqa is for non-commercial use.** It is an extra of its own, `iqa`, that `pip install 'opera-env[all]'`
leaves out; nothing else needs it. The official networks of the toolbox `paper` are no packages:
`opera-env weights fetch paper` prints their licences ([list](paper-toolbox.md)).

CUDA builds of torch bring NVIDIA's libraries, which may be used and passed on but are not free software.
"""


@dataclass(frozen=True)
class Licences:
    """Writes the page of licences."""

    out: Path = Path("docs/licences.md")
    """Page to write."""
    project: Path = Path("pyproject.toml")
    """File that names what is required."""


def licence_of(package: Distribution) -> str:
    """Returns the licence that the metadata of a package states, in one line."""
    name = canonicalize_name(package.metadata["Name"])
    if expression := package.metadata.get("License-Expression"):
        return expression
    classifiers = [
        text for text in package.metadata.get_all("Classifier") or [] if text.startswith("License")
    ]
    stated = [text.rpartition(" :: ")[2] for text in classifiers if text.count(" :: ") > 1]
    field = (package.metadata.get("License") or "").strip()
    if field and len(field) < 60 and "\n" not in field and field.upper() != "UNKNOWN":
        stated = stated or [field]
    known = [text for prefix, text in KNOWN.items() if name.startswith(prefix)]
    return " or ".join(stated or known) or first_line_of_licence(package) or "not stated"


def first_line_of_licence(package: Distribution) -> str:
    """Returns the title of a licence file of a package; "" if it has none."""
    for path in package.files or []:
        if re.match(r"licen[cs]e|copying", path.name, re.IGNORECASE):
            lines = [line.strip(" #*=") for line in path.read_text(encoding="utf-8").splitlines()]
            return next((line for line in lines if "licen" in line.lower() and len(line) < 60), "")
    return ""


def requirements(project: Path) -> dict[str, list[str]]:
    """Returns what a ``pyproject.toml`` requires, by extra; "" is the plain installation."""
    table = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    extras: dict[str, list[str]] = table["optional-dependencies"]
    return {"": table["dependencies"]} | {name: extras[name] for name in extras if name not in LEFT_OUT}


def dependencies(required: Sequence[str]) -> dict[str, Distribution]:
    """Returns the installed packages that requirements lead to on this machine, by name.

    Args:
        required: Requirements, such as ``"numpy>=2.2"``.
    """
    found: dict[str, Distribution] = {}
    waiting, seen = deque(map(Requirement, required)), set[tuple[str, str]]()
    while waiting:
        need = waiting.popleft()
        try:
            installed = distribution(need.name)
        except PackageNotFoundError:
            continue  # of another platform, or provided by another package
        found[canonicalize_name(need.name)] = installed
        for extra in {"", *need.extras} - {extra for name, extra in seen if name == need.name}:
            seen.add((need.name, extra))
            for further in map(Requirement, installed.requires or []):
                if further.marker is None or further.marker.evaluate({"extra": extra}):
                    waiting.append(further)
    return found


def heed(licence: str) -> str:
    """Returns what restricts the use or the distribution of a package with a licence; "" for nothing."""
    marks = (mark for pattern, mark in RESTRICTED.items() if re.search(pattern, licence, re.IGNORECASE))
    return next(marks, "")


def format_page(packages: Mapping[str, Mapping[str, Distribution]]) -> str:
    """Returns the page: a table for each extra, of what those above it have not brought.

    Args:
        packages: The packages of each extra by name.
    """
    parts, shown = [_HEAD], set[str]()
    for extra, needed in packages.items():
        rows = [
            f"| {installed.metadata['Name']} | {licence} | {heed(licence)} |".replace("|  |", "| |")
            for name, installed in sorted(needed.items())
            if name not in shown
            for licence in [licence_of(installed).replace("|", r"\|")]
        ]
        shown |= set(needed)
        title = f"The extra {extra}" if extra else "A plain installation"
        if rows:
            parts.append(
                "\n".join([f"## {title}\n", "| package | licence | |", "|---|---|---|", *rows]) + "\n"
            )
    return "\n".join(parts)


def write_page(config: Licences) -> None:
    """Writes the page."""
    packages = {extra: dependencies(required) for extra, required in requirements(config.project).items()}
    text = format_page(packages)
    with atomic_write(config.out) as partial:
        partial.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    run_program(Licences, write_page)
