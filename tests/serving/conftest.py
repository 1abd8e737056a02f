"""A scoring server in a thread, with the tiny toolbox and crops of the small photographs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from opera_env.data import Source
from opera_env.execution import PrefixCache
from opera_env.scoring import PlanScorer
from opera_env.serving.app import make_app
from opera_env.serving.config import ServingConfig
from opera_env.serving.metrics import ServerMetrics
from opera_env.serving.service import ScoringService
from opera_env.tools import Toolbox
from tests.served import serving_app

Serving = Callable[..., AbstractContextManager[tuple[str, ScoringService]]]


@pytest.fixture
def serve_scores(source: Source, toolbox: Toolbox) -> Serving:
    """``serve_scores(max_queue=1, ...)`` serves, and yields the address and the service."""

    @contextmanager
    def serve(
        port: int = 0, token: str | None = None, **limits: Any
    ) -> Iterator[tuple[str, ScoringService]]:
        metrics = ServerMetrics()
        scorer = PlanScorer(toolbox, "classic", cache=PrefixCache())
        service = ScoringService(scorer, source, ServingConfig(**limits), metrics.add_batch)
        with serving_app(make_app(service, metrics, token), port) as address:
            yield address, service

    return serve
