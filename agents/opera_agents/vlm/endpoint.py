"""A client of OpenAI-compatible chat servers, with retries and with limits on time and size."""

from __future__ import annotations

import base64
import io
import json
import os
import time
from dataclasses import dataclass, field
from typing import Any

import requests
from PIL import Image
from urllib3.exceptions import HTTPError

from opera_env.errors import EndpointError

MAX_RESPONSE_BYTES = 16 << 20
"""Largest accepted answer of a server. Long completions have some hundred kilobytes."""

MAX_WAIT = 60.0
"""Longest wait in seconds before a request is repeated, even if the server asks for a longer one."""

_BUSY = (408, 429, 500, 502, 503, 504)
"""HTTP statuses after which a request is repeated."""

_REASONING_FIELDS = ("reasoning_content", "reasoning")
"""Fields in which servers return the reasoning, if they separate it from the answer."""


@dataclass(frozen=True)
class ChatCompletion:
    """The answer of a server.

    Attributes:
        text: The answer.
        reasoning: The reasoning before the answer, if the server returns it separately; else "".
    """

    text: str
    reasoning: str = ""

    @property
    def full_text(self) -> str:
        """The answer as the model wrote it: many servers cut out the text between ``<think>`` tags.

        Example:
            >>> ChatCompletion("Yes.", "Hm.").full_text, ChatCompletion("Yes.").full_text
            ('<think>Hm.</think>Yes.', 'Yes.')
        """
        return f"<think>{self.reasoning}</think>{self.text}" if self.reasoning else self.text


@dataclass(frozen=True)
class _Response:
    """The status, the headers and the body of a response of a server."""

    status: int
    headers: Any
    body: bytes

    @property
    def excerpt(self) -> str:
        """The beginning of the body, for error messages."""
        return repr(self.body[:300].decode(errors="replace"))


@dataclass
class Endpoint:
    """A chat model at ``BASE_URL/chat/completions``: vLLM, ``transformers serve`` or a commercial service.

    Redirects are refused: photographs and keys are sent to the given address alone.

    Attributes:
        base_url: Base URL, such as ``http://127.0.0.1:8000/v1``.
        model: Name of the model on the server.
        api_key_env: Environment variable that holds the API key, if the server needs one. Keys are never
            passed as arguments.
        timeout: Seconds to wait for a complete answer, in each try.
        retries: Number of retries if the server is busy, unreachable or fails; waits grow exponentially.
        options: Further fields of the request, such as ``{"temperature": 0}``.
    """

    base_url: str
    model: str
    api_key_env: str = "OPENAI_API_KEY"
    timeout: float = 120.0
    retries: int = 4
    options: dict[str, Any] = field(default_factory=lambda: {"temperature": 0})

    def __post_init__(self) -> None:
        if not self.base_url.startswith(("http://", "https://")):
            raise EndpointError(
                "expected the address of a server, such as http://127.0.0.1:8000/v1, found "
                f"{self.base_url!r}."
            )
        self._session = requests.Session()

    def chat(self, messages: list[dict[str, Any]]) -> ChatCompletion:
        """Requests a chat completion.

        Args:
            messages: Messages as in OpenAI's API; :func:`image_part` makes the part of an image.

        Raises:
            EndpointError: If the server cannot be reached, refuses the request, does not answer in time,
                redirects to another address, or its answer is too large or not a chat completion.
        """
        url = f"{self.base_url.rstrip('/')}/chat/completions"
        response = self._post_until_answered(
            url, {"model": self.model, "messages": messages, **self.options}
        )
        if 300 <= response.status < 400:
            raise EndpointError(
                f"{url}: HTTP {response.status}, redirected to {response.headers.get('Location')!r}: "
                "redirects are not followed; give the address of the server itself."
            )
        if not 200 <= response.status < 300:
            hint = f" Set {self.api_key_env}." if response.status in (401, 403) else ""
            raise EndpointError(f"{url}: HTTP {response.status}, {response.excerpt}.{hint}")
        return _parse_completion(url, response)

    def _post_until_answered(self, url: str, request: dict[str, Any]) -> _Response:
        """Posts a request; repeats it while the server is busy or unreachable, ``retries`` times."""
        for attempt in range(self.retries + 1):
            try:
                response = self._post(url, request)
            except (requests.RequestException, HTTPError, TimeoutError) as error:
                if attempt == self.retries:
                    raise EndpointError(
                        f"{url}: no answer after {self.retries + 1} tries ({error}). Is the server "
                        "running, and is the address right?"
                    ) from error
                time.sleep(_wait(attempt))
                continue
            if response.status not in _BUSY or attempt == self.retries:
                return response
            time.sleep(_wait(attempt, response.headers.get("Retry-After")))
        raise AssertionError("the last try returns or raises")

    def _post(self, url: str, request: dict[str, Any]) -> _Response:
        """Posts a request once and reads the answer, within the limits on time and size."""
        key, deadline = os.environ.get(self.api_key_env), time.monotonic() + self.timeout
        with self._session.post(
            url,
            json=request,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=self.timeout,
            allow_redirects=False,
            stream=True,
        ) as response:
            body = bytearray()
            while chunk := response.raw.read1(1 << 16, decode_content=True):
                body += chunk
                if len(body) > MAX_RESPONSE_BYTES:
                    raise EndpointError(
                        f"{url}: the answer has more than {MAX_RESPONSE_BYTES >> 20} MiB: that is no chat "
                        "completion; is the address right?"
                    )
                if time.monotonic() > deadline:
                    raise TimeoutError(f"the answer was not complete after {self.timeout:g} s")
            return _Response(response.status_code, response.headers, bytes(body))


def _wait(attempt: int, retry_after: str | None = None) -> float:
    """Returns the seconds to wait after a failed attempt: 0.5, 1, 2, ..., or what the server asks for."""
    asked = float(retry_after) if retry_after is not None and retry_after.isdecimal() else 0.0
    return min(max(0.5 * 2**attempt, asked), MAX_WAIT)


def _parse_completion(url: str, response: _Response) -> ChatCompletion:
    """Returns the completion in the body of a response."""
    try:
        message = json.loads(response.body)["choices"][0]["message"]
        text, candidates = message["content"], [message.get(name) for name in _REASONING_FIELDS]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise EndpointError(f"{url}: expected a chat completion, found {response.excerpt}.") from error
    reasoning = next((candidate for candidate in candidates if isinstance(candidate, str)), "")
    if text is None and reasoning:  # The completion was cut off during the reasoning.
        text = ""
    if not isinstance(text, str):
        raise EndpointError(f"{url}: expected an answer in words, found {str(text)[:300]!r}.")
    return ChatCompletion(text, reasoning)


def image_part(image: Image.Image) -> dict[str, Any]:
    """Returns an image as a part of a message, encoded as PNG because it is lossless."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
