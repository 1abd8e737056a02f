"""The scoring server over HTTP: routes, statuses, limits and the token."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from opera_env.errors import (
    MetricError,
    OperaError,
    PlanParseError,
    RequestError,
    SampleError,
    ToolFailedError,
    UnknownToolError,
    error_message,
)
from opera_env.json_files import JsonObject
from opera_env.serving.gather import AbandonedError, QueueFullError
from opera_env.serving.messages import parse_request
from opera_env.serving.metrics import ServerMetrics
from opera_env.serving.service import IsAbandoned, ScoringService
from opera_env.serving.sessions import SessionError, TooManySessionsError
from opera_env.tools.served.server import LOOPBACK_NAMES, RefusedError, read_body

_STATUSES: dict[type[OperaError], int] = {
    RequestError: 400,
    SampleError: 400,
    PlanParseError: 400,
    UnknownToolError: 400,
    MetricError: 400,
    ToolFailedError: 422,
    TooManySessionsError: 429,
    AbandonedError: 503,
    QueueFullError: 503,
}

_RETRY_AFTER_SECONDS = "1"

Answer = Callable[[JsonObject, IsAbandoned], Awaitable[dict[str, Any]]]


def make_app(service: ScoringService, metrics: ServerMetrics, token: str | None = None) -> Starlette:
    """Returns the application.

    ``GET /`` describes the server, ``GET /health`` says that it runs, ``GET /metrics`` is for Prometheus;
    ``POST /score`` scores plans, ``POST /sessions`` opens a session and ``POST /step`` plays it.

    Args:
        service: Scores plans and plays sessions.
        metrics: Counts requests.
        token: What requests have to bring as ``Authorization: Bearer TOKEN``; None asks for nothing, and
            then only requests that name this machine are answered.
    """

    async def describe(request: Request) -> Response:
        return JSONResponse(service.describe())

    async def check_health(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def show_metrics(request: Request) -> Response:
        return Response(metrics.text(service), media_type="text/plain; version=0.0.4")

    async def close_session(request: JsonObject, is_abandoned: IsAbandoned) -> dict[str, Any]:
        service.sessions.close(request.text("session"))
        return {}

    def post(answer: Answer) -> Callable[[Request], Awaitable[Response]]:
        async def respond(request: Request) -> Response:
            return await _respond(request, answer, service, metrics)

        return respond

    routes = [
        Route("/", _guarded(describe, token)),
        Route("/health", check_health),
        Route("/metrics", _guarded(show_metrics, token)),
        Route("/score", _guarded(post(service.score), token), methods=["POST"]),
        Route("/sessions", _guarded(post(service.open_session), token), methods=["POST"]),
        Route("/sessions/close", _guarded(post(close_session), token), methods=["POST"]),
        Route("/step", _guarded(post(service.step), token), methods=["POST"]),
    ]
    # Browsers send requests of any web page to this machine, under a name that the page chooses.
    names = [] if token is not None else [Middleware(TrustedHostMiddleware, allowed_hosts=LOOPBACK_NAMES)]
    return Starlette(routes=routes, middleware=names)


def _guarded(
    respond: Callable[[Request], Awaitable[Response]], token: str | None
) -> Callable[[Request], Awaitable[Response]]:
    """Returns a function that answers requests with the token only."""
    expected = f"Bearer {token}".encode()

    async def respond_to_known(request: Request) -> Response:
        found = request.headers.get("authorization", "").encode("latin-1")
        if token is not None and not hmac.compare_digest(found, expected):
            return _refusal(401, "expected the token of this server: Authorization: Bearer TOKEN.")
        return await respond(request)

    return respond_to_known


async def _respond(
    request: Request, answer: Answer, service: ScoringService, metrics: ServerMetrics
) -> Response:
    """Answers a request, with the status of its error if there is one, and counts it."""
    start = time.monotonic()
    try:
        body = await read_body(request, service.config.max_body_bytes, "--max-pixels")
        parsed = parse_request(body)
        content = await asyncio.wait_for(answer(parsed, request.is_disconnected), service.config.timeout)
        response: Response = JSONResponse(content)
    except RefusedError as refusal:
        response = _refusal(refusal.status, str(refusal))
    except TimeoutError:
        seconds = service.config.timeout
        response = _refusal(504, f"the scores did not come within {seconds:g} s (--timeout).")
    except asyncio.CancelledError:  # of the server, which ends and has waited long enough
        response = _refusal(503, "the server was told to end before it could answer.")
    except SessionError as error:
        response = _refusal(409 if error.in_use else 404, str(error))
    except OperaError as error:
        status = next((status for kind, status in _STATUSES.items() if isinstance(error, kind)), 500)
        response = _refusal(status, error_message(error))
    metrics.add_request(request.url.path, response.status_code, time.monotonic() - start)
    return response


def _refusal(status: int, message: str) -> Response:
    headers = {"retry-after": _RETRY_AFTER_SECONDS} if status in (429, 503) else None
    return JSONResponse({"error": message}, status, headers)
