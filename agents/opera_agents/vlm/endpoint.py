"""A client of OpenAI-compatible chat servers, with retries."""

from __future__ import annotations

import base64
import io
import os
from dataclasses import dataclass, field
from typing import Any

import requests
from PIL import Image
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from opera_env.errors import EndpointError

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


@dataclass
class Endpoint:
    """A chat model at ``BASE_URL/chat/completions``: vLLM, ``transformers serve`` or a commercial service.

    Attributes:
        base_url: Base URL, such as ``http://127.0.0.1:8000/v1``.
        model: Name of the model on the server.
        api_key_env: Environment variable that holds the API key, if the server needs one. Keys are never
            passed as arguments.
        timeout: Seconds to wait for an answer.
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
        retry = Retry(
            self.retries,
            backoff_factor=0.5,
            status_forcelist=(408, 429, 500, 502, 503, 504),
            allowed_methods=None,  # POST is not idempotent in general; a completion may be repeated.
            raise_on_status=False,
        )
        self._session = requests.Session()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=retry))

    def chat(self, messages: list[dict[str, Any]]) -> ChatCompletion:
        """Requests a chat completion.

        Args:
            messages: Messages as in OpenAI's API; :func:`image_part` makes the part of an image.

        Raises:
            EndpointError: If the server cannot be reached, refuses the request, or its answer is not a
                chat completion.
        """
        url = f"{self.base_url.rstrip('/')}/chat/completions"
        key = os.environ.get(self.api_key_env)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        body = {"model": self.model, "messages": messages, **self.options}
        try:
            response = self._session.post(url, json=body, headers=headers, timeout=self.timeout)
        except requests.RequestException as error:
            raise EndpointError(
                f"{url}: no answer after {self.retries + 1} tries ({error}). Is the server running, and is "
                "the address right?"
            ) from error
        if not response.ok:
            hint = f" Set {self.api_key_env}." if response.status_code in (401, 403) else ""
            raise EndpointError(f"{url}: HTTP {response.status_code}, {response.text[:300]!r}.{hint}")
        try:
            message = response.json()["choices"][0]["message"]
            text, candidates = message["content"], [message.get(name) for name in _REASONING_FIELDS]
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise EndpointError(
                f"{url}: expected a chat completion, found {response.text[:300]!r}."
            ) from error
        reasoning = next((candidate for candidate in candidates if isinstance(candidate, str)), "")
        if text is None and reasoning:  # The completion was cut off during the reasoning.
            text = ""
        if not isinstance(text, str):
            raise EndpointError(f"{url}: expected an answer in words, found {text!r}.")
        return ChatCompletion(text, reasoning)


def image_part(image: Image.Image) -> dict[str, Any]:
    """Returns an image as a part of a message, encoded as PNG because it is lossless."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
