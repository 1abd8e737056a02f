"""The client of the scoring server: scores plans and answers elsewhere, and plays sessions there."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from opera_env.data.images import quantise, to_tensor
from opera_env.errors import EndpointError
from opera_env.json_files import JsonObject, parse_object
from opera_env.serving.messages import encode_image, num_pixels
from opera_env.serving.post import JsonPost, Response, check_address
from opera_env.serving.service import PROTOCOL
from opera_env.types import Decision, Outcome, Plan, Sample, SampleSpec

TOKEN_ENV = "OPERA_ENV_TOKEN"  # noqa: S105 - the name of a variable
"""Environment variable that holds the token of the scoring server."""

_BUSY = (408, 429, 502, 503, 504)
"""Statuses after which a request is repeated; 500 is a failure that would happen again."""

_REMEDY = "Is it a scoring server of this version of opera-env?"


@dataclass(frozen=True)
class Scored:
    """The score of a plan or an answer.

    Attributes:
        outcome: R_q with its terms and metrics. Of an answer that cannot be parsed, R_q is 0.
        reward: R_q less the tool cost of the server.
        degradations: The true degradations of the sample; None where they are not known.
        plan: The plan.
        r_d: F1 score of the degradations that an answer names; 1 for plans.
        r_f: 1 if an answer could be parsed, else 0; 1 for plans.
        total: R_q R_d R_f of an answer, less the tool cost; the reward of a plan.
        error: Why an answer could not be parsed; None if it could.
    """

    outcome: Outcome
    reward: float
    degradations: frozenset[str] | None
    plan: Plan
    r_d: float
    r_f: float
    total: float
    error: str | None


class ScoringClient:
    """Scores at a server that ``opera-env serve`` runs. It may be used from several threads.

    Requests are repeated while the server is busy, or is started again: scores depend on the request alone.

    Args:
        address: Address of the server, such as ``http://127.0.0.1:8200``.
        timeout: Seconds to wait for an answer, in each try.
        retries: Number of retries; the waits grow from half a second to five.
        token_env: Environment variable that holds the server's token, if it needs one.

    Attributes:
        served: What the server says of itself: ``tools``, ``degradations``, ``reward``, ``max_tools``, ...

    Raises:
        EndpointError: If no scoring server answers there.
    """

    def __init__(
        self, address: str, timeout: float = 300.0, retries: int = 20, token_env: str = TOKEN_ENV
    ) -> None:
        check_address(address)
        self.address = address.rstrip("/")
        expected = "answer of a scoring server"
        self._post = JsonPost(token_env, timeout, retries, 256 << 20, expected, _BUSY, max_wait=5.0)
        self.served = dict(self._request("/", None).data)
        if self.served.get("protocol") != PROTOCOL:
            found = str(self.served.get("protocol"))[:40]
            raise EndpointError(f"{self.address}: expected protocol {PROTOCOL}, found {found}. {_REMEDY}")

    @property
    def tool_names(self) -> tuple[str, ...]:
        """Names of the tools that plans may contain."""
        return tuple(self.served["tools"])

    @property
    def degradations(self) -> tuple[str, ...]:
        """Labels that answers may name."""
        return tuple(self.served["degradations"])

    def score(
        self,
        samples: Sequence[SampleSpec | Sample | int],
        plans: Sequence[Plan],
        *,
        restored: bool = False,
    ) -> list[Scored]:
        """Scores one plan per sample.

        Args:
            samples: Specifications of the server's source; samples, whose images are sent; or seeds, with
                which the server draws samples.
            plans: One plan per sample.
            restored: Whether the outcomes have the restored images.

        Raises:
            EndpointError: If the server cannot be reached, or refuses the request.
        """
        items = [
            {**_sample_json(sample), "plan": list(plan)}
            for sample, plan in zip(samples, plans, strict=True)
        ]
        return self._score(samples, items, plans, restored)

    def score_answers(
        self, samples: Sequence[SampleSpec | Sample | int], answers: Sequence[str]
    ) -> list[Scored]:
        """Scores one answer in words per sample; arguments and errors as :meth:`score`."""
        items = [
            {**_sample_json(sample), "answer": answer}
            for sample, answer in zip(samples, answers, strict=True)
        ]
        return self._score(samples, items, None, restored=False)

    def _score(
        self,
        samples: Sequence[SampleSpec | Sample | int],
        items: Sequence[dict[str, Any]],
        plans: Sequence[Plan] | None,
        restored: bool,
    ) -> list[Scored]:
        scored: list[Scored] = []
        for part in self._calls(samples):
            answer = self._request("/score", {"items": items[part], "restored": restored})
            count = len(items[part])
            rows = answer.objects("results", count)
            if len(rows) != count:
                answer.fail(f"expected {count} results, found {len(rows)}")
            scored += [
                _parse_scored(row, None if plans is None else plans[part.start + index])
                for index, row in enumerate(rows)
            ]
        return scored

    def _calls(self, samples: Sequence[SampleSpec | Sample | int]) -> Iterator[slice]:
        """Yields the samples of each call: as many as the server takes in plans and in pixels."""
        max_plans, max_pixels = int(self.served["max_plans"]), int(self.served["max_pixels"])
        start = pixels = 0
        for index, sample in enumerate(samples):
            size = num_pixels(sample) if isinstance(sample, Sample) else 0
            if index > start and (index - start == max_plans or pixels + size > max_pixels):
                yield slice(start, index)
                start, pixels = index, 0
            pixels += size
        if start < len(samples):
            yield slice(start, len(samples))

    def open_session(self, sample: SampleSpec | Sample | int, plan: Plan = ()) -> RemoteSession:
        """Opens a session, in which tools are applied turn by turn, with a plan applied already.

        Args:
            sample: A specification, a sample, or a seed with which the server draws one.
            plan: Tools that are applied at once.

        Raises:
            EndpointError: If the server cannot be reached, or refuses the request.
        """
        return RemoteSession(self, sample, plan)

    def _request(self, path: str, content: Any) -> JsonObject:
        url = self.address + path
        response = self._post(url, content)
        if not response.is_success:
            raise RefusedRequestError(url, response)
        return parse_object(response.body, url, EndpointError, _REMEDY)


class RefusedRequestError(EndpointError):
    """The scoring server refuses a request.

    Attributes:
        status: The status of HTTP.
    """

    def __init__(self, url: str, response: Response) -> None:
        try:
            message = parse_object(response.body, url, EndpointError, _REMEDY).text("error")
        except EndpointError:  # a failure of the server, or another server
            message = response.excerpt
        super().__init__(f"{url}: HTTP {response.status}, {message}")
        self.status = response.status


class RemoteSession:
    """A session of the scoring server. If it has ended, or the server has restarted, it is opened again.

    Args:
        client: The client.
        sample: The sample, or a seed.
        plan: The plan that is applied already.

    Attributes:
        state: What the server said last: ``plan``, ``steps_left``, ``done``, ``r_q``, ``reward``, ...
    """

    def __init__(self, client: ScoringClient, sample: SampleSpec | Sample | int, plan: Plan = ()) -> None:
        self._client, self._sample = client, _sample_json(sample)
        self.state: dict[str, Any] = {"plan": list(plan)}
        self._open()

    def _open(self) -> None:
        progress = {key: self.state[key] for key in ("plan", "undone", "turns") if key in self.state}
        self.state = dict(self._client._request("/sessions", self._sample | progress).data)
        self._name = str(self.state.get("session"))

    @property
    def image(self) -> Image.Image:
        """The current image, RGB at canvas size."""
        return Image.open(io.BytesIO(base64.b64decode(self.state["image"]))).convert("RGB")

    def step(self, decision: Decision) -> float:
        """Takes one turn; returns its reward, the increase of R_q less the costs of the tools in the plan.

        Raises:
            EndpointError: If the server cannot be reached, or refuses the request.
        """
        turn: dict[str, Any] = {
            "tools": list(decision.plan),
            "undo": decision.undo,
            "finish": decision.finish,
        }
        if decision.degradations is not None:
            turn["degradations"] = sorted(decision.degradations)
        turn["turn"] = self.state["turns"]  # so that a request can be repeated
        try:
            answer = self._client._request("/step", {"session": self._name, **turn})
        except RefusedRequestError as error:
            if error.status != 404:
                raise
            self._open()
            answer = self._client._request("/step", {"session": self._name, **turn})
        self.state = dict(answer.data)
        return answer.number("reward_change")

    def close(self) -> None:
        """Closes the session; one that has ended is closed already."""
        self._client._request("/sessions/close", {"session": self._name})


def _sample_json(sample: SampleSpec | Sample | int) -> dict[str, Any]:
    if isinstance(sample, int):
        return {"seed": sample}
    if isinstance(sample, SampleSpec):
        return {"spec": sample.to_json()}
    content: dict[str, Any] = {"image": encode_image(sample.lq)}
    if sample.reference is not None:
        content["reference"] = encode_image(sample.reference)
    if sample.degradations is not None:
        content["degradations"] = sorted(sample.degradations)
    return content


def _parse_scored(row: JsonObject, plan: Plan | None) -> Scored:
    """Parses the score of a plan, or of an answer, whose plan the server says."""
    restored = None
    if "restored" in row.data:
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(row.text("restored")))))
        restored = quantise(to_tensor(pixels))
    outcome = Outcome(
        restored,
        {name: float(value) for name, value in row.mapping("metrics").items()},
        {name: float(value) for name, value in row.mapping("terms").items()},
        row.number("r_q"),
        row.integer("num_tools", 0, 1000),
    )
    labels = row.data.get("degradations")
    reward, error = row.number("reward"), row.data.get("error")
    return Scored(
        outcome,
        reward,
        None if labels is None else frozenset(row.names("degradations")),
        row.names("plan") if plan is None else plan,
        row.number("r_d", 1.0),
        row.number("r_f", 1.0),
        row.number("total", reward),
        None if error is None else str(error),
    )
