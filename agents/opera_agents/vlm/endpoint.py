"""Asks an OpenAI-compatible server, patiently and politely."""

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


@dataclass(frozen=True)
class Reply:
    """What a server answers.

    Attributes:
        text: The answer.
        reasoning: What the model thought before, if the server keeps that apart; "" if it does not.
    """

    text: str
    reasoning: str = ""

    @property
    def whole(self) -> str:
        """The answer as the model wrote it: many servers cut out what stands between ``<think>`` tags.

        Example:
            >>> Reply("Yes.", "Hm.").whole, Reply("Yes.").whole
            ('<think>Hm.</think>Yes.', 'Yes.')
        """
        return f"<think>{self.reasoning}</think>{self.text}" if self.reasoning else self.text


@dataclass
class Endpoint:
    """A chat model behind ``BASE_URL/chat/completions``: vLLM, ``transformers serve``, or a commercial one.

    Attributes:
        base_url: Such as ``http://127.0.0.1:8000/v1``.
        model: What the server calls the model.
        api_key_env: Environment variable with the key, if the server wants one; keys are never arguments.
        timeout: Seconds to wait for an answer.
        retries: How often to ask again when the server is busy, away or fails, ever longer in between.
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
            allowed_methods=None,  # asking is not idempotent in HTTP's eyes, but harmless
            raise_on_status=False,
        )
        self._session = requests.Session()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=retry))

    def ask(self, messages: list[dict[str, Any]]) -> Reply:
        """Returns the answer.

        Args:
            messages: As OpenAI's chat completions take them; :func:`picture` makes an image's part.

        Raises:
            EndpointError: If the server stays away, refuses, or answers something else.
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
            text, thoughts = message["content"], [message.get(name) for name in _REASONING]
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise EndpointError(
                f"{url}: expected a chat completion, found {response.text[:300]!r}."
            ) from error
        reasoning = next((thought for thought in thoughts if isinstance(thought, str)), "")
        if text is None and reasoning:  # it was cut off before it came to an answer
            text = ""
        if not isinstance(text, str):
            raise EndpointError(f"{url}: expected an answer in words, found {text!r}.")
        return Reply(text, reasoning)


_REASONING = ("reasoning_content", "reasoning")
"""What servers call the reasoning that they keep apart."""


def picture(image: Image.Image) -> dict[str, Any]:
    """Returns an image as a part of a message: PNG, so that no new damage is added."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
