"""What a chat agent does to a photograph, tool call by tool call."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any

from PIL import Image

from opera_env.data.images import to_pil
from opera_env.demo.workshop import Restored, Workshop
from opera_env.errors import SettingError
from opera_env.restoration import DEFAULT_AGENT, DEFAULT_TOOLBOX

_MAX_PHOTOGRAPHS, _MAX_RESULTS = 8, 8
"""Photographs that are kept, the one that was used longest ago is forgotten first; and results of each."""


class Sessions:
    """Photographs that a chat agent has opened, each with the results so far.

    Args:
        workshop: Restores the photographs.
    """

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop
        self._results: OrderedDict[str, list[Restored]] = OrderedDict()
        self._lock = Lock()

    def inspect(self, path: Path | str) -> dict[str, Any]:
        """Opens a photograph and tells which degradations the agent sees, without changing it."""
        photo = self._workshop.open(path)
        restored = self._workshop.restore(photo, DEFAULT_AGENT, DEFAULT_TOOLBOX, num_variants=0)
        untouched = self._workshop.restore(photo, DEFAULT_AGENT, DEFAULT_TOOLBOX, plan=())
        return self._describe(self._keep([untouched]), untouched) | {
            "probabilities": dict(restored.decision.probabilities or {}),
            "suggested_plan": list(restored.plan),
            "tools": list(self._workshop.toolbox(DEFAULT_TOOLBOX).names),
        }

    def restore(self, path: Path | str) -> tuple[dict[str, Any], Image.Image]:
        """Opens a photograph, and lets the agent plan and restore it."""
        photo = self._workshop.open(path)
        untouched = self._workshop.restore(photo, DEFAULT_AGENT, DEFAULT_TOOLBOX, plan=())
        restored = self._workshop.restore(photo, DEFAULT_AGENT, DEFAULT_TOOLBOX, num_variants=0)
        return self._answer(self._keep([untouched, restored]), restored)

    def apply_plan(self, photograph: str, plan: Sequence[str]) -> tuple[dict[str, Any], Image.Image]:
        """Applies a plan to the photograph as it was opened."""
        results = self._get(photograph)
        restored = self._workshop.restore(results[0].photo, DEFAULT_AGENT, DEFAULT_TOOLBOX, plan=plan)
        results.append(_last_image(restored))
        del results[1:-_MAX_RESULTS]
        return self._answer(photograph, restored)

    def undo(self, photograph: str) -> tuple[dict[str, Any], Image.Image]:
        """Returns to the result before the last one; the photograph itself always stays."""
        results = self._get(photograph)
        if len(results) > 1:
            results.pop()
        return self._answer(photograph, results[-1])

    def _keep(self, results: list[Restored]) -> str:
        name = secrets.token_hex(8)
        with self._lock:
            self._results[name] = [_last_image(result) for result in results]
            while len(self._results) > _MAX_PHOTOGRAPHS:
                self._results.popitem(last=False)
        return name

    def _get(self, photograph: str) -> list[Restored]:
        with self._lock:
            if photograph not in self._results:
                raise SettingError(
                    "photograph",
                    photograph,
                    "the name that inspect or restore has returned, not too long ago",
                )
            self._results.move_to_end(photograph)
            return self._results[photograph]

    def _answer(self, photograph: str, restored: Restored) -> tuple[dict[str, Any], Image.Image]:
        return self._describe(photograph, restored), to_pil(restored.images[-1])

    def _describe(self, photograph: str, restored: Restored) -> dict[str, Any]:
        return {
            "photograph": photograph,
            "plan": list(restored.plan),
            "score_before": round(restored.scores[0], 2),
            "score_after": round(restored.scores[-1], 2),
            "reason": restored.reason,
        }


def _last_image(restored: Restored) -> Restored:
    """Returns the result without the images between, which take memory."""
    return replace(restored, images=restored.images[-1:])
