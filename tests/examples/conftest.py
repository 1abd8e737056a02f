"""A scoring server, at which the environments of the examples play."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

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

Serve = Callable[[Toolbox], AbstractContextManager[str]]


@pytest.fixture
def serve_scores(source: Source) -> Serve:
    """``with serve_scores(toolbox) as address`` serves scores of samples of the small source."""

    def serve(toolbox: Toolbox) -> AbstractContextManager[str]:
        scorer = PlanScorer(toolbox, "classic", cache=PrefixCache())
        return serving_app(make_app(ScoringService(scorer, source, ServingConfig()), ServerMetrics()))

    return serve


@pytest.fixture
def server(serve_scores: Serve, toolbox: Toolbox) -> Iterator[str]:
    with serve_scores(toolbox) as address:
        yield address
