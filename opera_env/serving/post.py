"""Requests over HTTP that hold JSON: repeated while a server is busy, within limits of time and size."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any

import requests
from urllib3.exceptions import HTTPError

from opera_env.errors import EndpointError

MAX_WAIT = 60.0
"""Longest wait in seconds before a request is repeated, even if the server asks for a longer one."""

BUSY = (408, 429, 500, 502, 503, 504)
"""HTTP statuses after which a request is repeated by default."""


@dataclass(frozen=True)
class Response:
    """The status, the headers and the body of a response of a server."""

    status: int
    headers: Any
    body: bytes

    @property
    def is_success(self) -> bool:
        """Whether the status says that the request was answered."""
        return 200 <= self.status < 300

    @property
    def excerpt(self) -> str:
        """The beginning of the body, for error messages."""
        return repr(self.body[:300].decode(errors="replace"))


@dataclass
class JsonPost:
    """Sends requests to a server. Redirects are refused: data and keys go to the given address alone.

    Attributes:
        token_env: Environment variable that holds the key of the server, if it needs one. Keys are never
            passed as arguments.
        timeout: Seconds to wait for a complete answer, in each try.
        retries: Number of retries if the server is busy, unreachable or fails; waits grow exponentially.
        max_bytes: Largest answer, in bytes.
        expected: What an answer is, for error messages.
        busy: HTTP statuses after which a request is repeated.
        max_wait: Longest wait in seconds before a retry, whatever the server asks for.
    """

    token_env: str
    timeout: float = 120.0
    retries: int = 4
    max_bytes: int = 16 << 20
    expected: str = "answer"
    busy: tuple[int, ...] = BUSY
    max_wait: float = MAX_WAIT

    def __post_init__(self) -> None:
        self._session = requests.Session()

    def __call__(self, url: str, content: Any = None) -> Response:
        """Posts JSON, or gets the address if there is none; repeats it while the server is busy.

        Raises:
            EndpointError: If the server cannot be reached, does not answer in time, redirects to another
                address, or its answer is too large.
        """
        for attempt in range(self.retries + 1):
            try:
                response = self._send(url, content)
            except (requests.RequestException, HTTPError, TimeoutError) as error:
                if attempt == self.retries:
                    raise EndpointError(
                        f"{url}: no answer after {self.retries + 1} tries ({error}). Is the server "
                        "running, and is the address right?"
                    ) from error
                time.sleep(min(wait(attempt), self.max_wait))
                continue
            if response.status not in self.busy or attempt == self.retries:
                return self._check_redirect(url, response)
            time.sleep(min(wait(attempt, response.headers.get("Retry-After")), self.max_wait))
        raise AssertionError("the last try returns or raises")

    def _check_redirect(self, url: str, response: Response) -> Response:
        if 300 <= response.status < 400:
            raise EndpointError(
                f"{url}: HTTP {response.status}, redirected to {response.headers.get('Location')!r}: "
                "redirects are not followed; give the address of the server itself."
            )
        return response

    def _send(self, url: str, content: Any) -> Response:
        """Sends a request once and reads the answer, within the limits on time and size."""
        key, deadline = os.environ.get(self.token_env), time.monotonic() + self.timeout
        with self._session.request(
            "GET" if content is None else "POST",
            url,
            json=content,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=self.timeout,
            allow_redirects=False,
            stream=True,
        ) as response:
            body = bytearray()
            while chunk := response.raw.read1(1 << 16, decode_content=True):
                body += chunk
                if len(body) > self.max_bytes:
                    raise EndpointError(
                        f"{url}: the answer has more than {self.max_bytes >> 20} MiB: that is no "
                        f"{self.expected}; is the address right?"
                    )
                if time.monotonic() > deadline:
                    raise TimeoutError(f"the answer was not complete after {self.timeout:g} s")
            return Response(response.status_code, response.headers, bytes(body))


def check_address(address: str) -> None:
    """Checks that a text is the address of a server.

    Raises:
        EndpointError: If it is not.
    """
    if not address.startswith(("http://", "https://")):
        raise EndpointError(
            f"expected the address of a server, such as http://127.0.0.1:8000/v1, found {address!r}."
        )


def wait(attempt: int, retry_after: str | None = None) -> float:
    """Returns the seconds to wait after a failed attempt: 0.5, 1, 2, ..., or what the server asks for."""
    asked = float(retry_after) if retry_after is not None and retry_after.isdecimal() else 0.0
    return min(max(0.5 * 2**attempt, asked), MAX_WAIT)
