"""The tests of this folder are slow, and count what they have done."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import pytest

from tests.conftest import COUNT


class Counts(Protocol):
    """Adds to a number that is printed after all tests."""

    def __call__(self, name: str, number: int = 1) -> None: ...


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    folder = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(folder):
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def counts(request: pytest.FixtureRequest) -> Counts:
    """``counts("restore: killed runs", 12)`` adds to a number that is printed after all tests."""

    def add(name: str, number: int = 1) -> None:
        request.node.user_properties.append((COUNT, (name, number)))

    return add
