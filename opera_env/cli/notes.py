"""Warnings of this package, as the command line prints them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opera_env.console import Console
from opera_env.errors import OperaWarning


@contextmanager
def warnings_in_one_line() -> Iterator[None]:
    """Prints warnings of this package in one line, without the file and the line of code that warn."""
    with warnings.catch_warnings():
        show_other = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **options: Any) -> None:
            if issubclass(category, OperaWarning):
                console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
                console.print(f"note: {message}")
            else:
                show_other(message, category, *place, **options)

        warnings.showwarning = show
        yield
