"""``opera-env serve``: scores plans and answers for other processes."""

from __future__ import annotations

import math
from dataclasses import fields

from opera_env.cli.options.serve import Serve
from opera_env.data import resolve_source
from opera_env.devices import resolve_device
from opera_env.execution import PrefixCache
from opera_env.imports import require_packages
from opera_env.scoring import PlanScorer
from opera_env.serving.config import ServingConfig
from opera_env.tools import Toolbox
from opera_env.tools.served.server import run_app


def run(options: Serve) -> int:
    """Serves until the process is told to end; returns the exit code.

    Raises:
        MissingPackageError: If packages of the extra ``serve`` are missing.
        OSError: If the port is in use.
    """
    require_packages("serve", "starlette", "uvicorn", "prometheus_client")
    from opera_env.serving.app import make_app
    from opera_env.serving.metrics import ServerMetrics
    from opera_env.serving.service import ScoringService

    toolbox = Toolbox.load(options.toolbox, resolve_device(options.device), options.trust_code)
    source = resolve_source(options.images, options.canvas, degradations=options.degradations)
    names = {field.name for field in fields(ServingConfig)} & {field.name for field in fields(options)}
    config = ServingConfig(**{name: getattr(options, name) for name in names})
    metrics = ServerMetrics()
    scorer = PlanScorer(toolbox, options.reward, cache=PrefixCache())
    service = ScoringService(scorer, source, config, metrics.add_batch)

    def announce(address: str) -> str:
        return f"scoring with {options.toolbox} at {address}, reward {scorer.reward.name}"

    app = make_app(service, metrics, options.token)
    connections, seconds = options.max_connections, math.ceil(options.timeout)
    run_app(app, options.host, options.port, announce, connections, seconds)
    return 0
