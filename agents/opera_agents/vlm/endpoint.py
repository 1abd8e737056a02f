"""A client of OpenAI-compatible chat servers, with retries and with limits on time and size."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from opera_env.errors import EndpointError
from opera_env.serving.post import JsonPost, Response, check_address
from opera_env.types import TokenCount

MAX_RESPONSE_BYTES = 16 << 20
"""Largest accepted answer of a server. Long completions have some hundred kilobytes."""

_REASONING_FIELDS = ("reasoning_content", "reasoning")
"""Fields in which servers return the reasoning, if they separate it from the answer."""


@dataclass(frozen=True)
class ToolCall:
    """A call of a function that a model asks for.

    Attributes:
        name: Name of the function.
        arguments: Its arguments, as the JSON that the model wrote.
    """

    name: str
    arguments: str


@dataclass(frozen=True)
class ChatCompletion:
    """The answer of a server.

    Attributes:
        text: The answer.
        reasoning: The reasoning before the answer, if the server returns it separately; else "".
        tool_calls: The functions that the model calls.
        tokens: Numbers of tokens of the request and of the answer; None if the server does not say them.
    """

    text: str
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tokens: TokenCount | None = None

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
        check_address(self.base_url)
        self._post = JsonPost(
            self.api_key_env, self.timeout, self.retries, MAX_RESPONSE_BYTES, "chat completion"
        )

    def chat(
        self, messages: list[dict[str, Any]], functions: Sequence[Mapping[str, Any]] = ()
    ) -> ChatCompletion:
        """Requests a chat completion.

        Args:
            messages: Messages as in OpenAI's API; :func:`image_part` makes the part of an image.
            functions: The functions that the model may call, as in OpenAI's API.

        Raises:
            EndpointError: If the server cannot be reached, refuses the request, does not answer in time,
                redirects to another address, or its answer is too large or not a chat completion.
        """
        url = f"{self.base_url.rstrip('/')}/chat/completions"
        tools = [{"type": "function", "function": function} for function in functions]
        request = {"model": self.model, "messages": messages, **self.options}
        response = self._post(url, request | ({"tools": tools} if tools else {}))
        if not response.is_success:
            hint = f" Set {self.api_key_env}." if response.status in (401, 403) else ""
            raise EndpointError(f"{url}: HTTP {response.status}, {response.excerpt}.{hint}")
        return _parse_completion(url, response)


def _parse_completion(url: str, response: Response) -> ChatCompletion:
    """Returns the completion in the body of a response."""
    try:
        body = json.loads(response.body)
        message = body["choices"][0]["message"]
        candidates = [message.get(name) for name in _REASONING_FIELDS]
        calls = tuple(
            ToolCall(str(call["function"]["name"]), str(call["function"]["arguments"]))
            for call in message.get("tool_calls") or ()
        )
        text = message.get("content") if calls else message["content"]
        tokens = _parse_usage(body.get("usage") or {})
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise EndpointError(f"{url}: expected a chat completion, found {response.excerpt}.") from error
    reasoning = next((candidate for candidate in candidates if isinstance(candidate, str)), "")
    if text is None and (reasoning or calls):  # it was cut off during the reasoning, or is a call
        text = ""
    if not isinstance(text, str):
        raise EndpointError(f"{url}: expected an answer in words, found {str(text)[:300]!r}.")
    return ChatCompletion(text, reasoning, calls, tokens)


def _parse_usage(usage: Mapping[str, Any]) -> TokenCount | None:
    """Returns the numbers of tokens; None if a server does not say them."""
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if isinstance(prompt, int) and isinstance(completion, int) and min(prompt, completion) >= 0:
        return TokenCount(prompt, completion)
    return None


def image_part(image: Image.Image) -> dict[str, Any]:
    """Returns an image as a part of a message, encoded as PNG because it is lossless."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
