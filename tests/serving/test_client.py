"""The client: scores, answers, sessions, and a server that is stopped and started again."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch

from opera_env.data import Source
from opera_env.data.images import to_pil
from opera_env.envs.observation import Episode, observe
from opera_env.errors import EndpointError
from opera_env.reward import f1_score
from opera_env.scoring import PlanScorer
from opera_env.serving import post
from opera_env.serving.client import RefusedRequestError, ScoringClient
from opera_env.serving.messages import num_pixels
from opera_env.tools import Toolbox
from opera_env.types import Decision, Sample
from tests.serving.conftest import Serving


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(post, "wait", lambda attempt, asked=None: 0.05)


@pytest.fixture
def other_server() -> Iterator[str]:
    """A server of something else."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"protocol": 99}).encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_scores_and_images_are_those_of_the_scorer(
    serve_scores: Serving, samples: list[Sample], toolbox: Toolbox
) -> None:
    plans = [("tiny.blur",), ("tiny.enlarge",), (), ("tiny.enlarge", "tiny.darken")]
    with serve_scores(max_plans=3, tool_cost=0.25) as (address, _):
        client = ScoringClient(address)
        scored = client.score([sample.spec for sample in samples], plans, restored=True)
        sent = client.score(samples, plans)
    assert client.tool_names == toolbox.names and client.served["max_tools"] == 6
    expected = PlanScorer(toolbox, "classic").score(samples, plans)
    for row, from_image, outcome, sample in zip(scored, sent, expected, samples, strict=True):
        assert row.outcome.r_q == pytest.approx(outcome.r_q, abs=1e-4)
        assert from_image.outcome.r_q == pytest.approx(outcome.r_q, abs=1e-4)
        assert row.reward == row.total == row.outcome.r_q - 0.25 * outcome.num_tools
        assert row.degradations == from_image.degradations == sample.degradations
        assert row.outcome.restored is not None and outcome.restored is not None
        assert (row.outcome.restored.int() - outcome.restored.int()).abs().max() <= 1
    assert [row.plan for row in scored] == plans


def test_calls_keep_to_the_pixels_that_the_server_takes(
    serve_scores: Serving, samples: list[Sample]
) -> None:
    """A sample and its reference; a specification has no pixels."""
    largest = max(num_pixels(sample) for sample in samples)
    plans = [("tiny.blur",)] * len(samples)
    with serve_scores(max_pixels=largest) as (address, _):
        client = ScoringClient(address)
        assert len(list(client._calls(samples))) == len(samples) > 1
        assert len(list(client._calls([sample.spec for sample in samples]))) == 1
        scored = client.score(samples, plans)
    assert [row.plan for row in scored] == plans and all(row.outcome.r_q > 0 for row in scored)


def test_answers_are_parsed_at_the_server(serve_scores: Serving, samples: list[Sample]) -> None:
    labels = sorted(samples[0].degradations or ())
    good = f"<think>Hm.</think><degradation>{labels}</degradation><answer>['tiny.blur']</answer>"
    with serve_scores() as (address, _):
        first, second = ScoringClient(address).score_answers([samples[0].spec] * 2, [good, "blur"])
    assert (first.plan, first.r_d, first.r_f, first.error) == (("tiny.blur",), 1.0, 1.0, None)
    assert first.total == first.reward > 0
    assert (second.plan, second.r_f, second.total) == ((), 0.0, 0.0) and second.error is not None


def test_a_session_is_opened_again_after_the_server_was_started_again(
    serve_scores: Serving, samples: list[Sample]
) -> None:
    sample = samples[0]
    with serve_scores() as (address, _):
        client = ScoringClient(address)
        session = client.open_session(sample.spec)
        shown = observe(Episode(sample), 6).image
        assert session.image.tobytes() == to_pil(shown).tobytes()
        session.step(Decision(("tiny.darken", "tiny.blur")))
        session.step(Decision((), undo=1))
        before = session.state
    with serve_scores(port=urlsplit(address).port or 0):
        change = session.step(Decision(("tiny.brighten",), finish=True))
        assert session.state["plan"] == ["tiny.darken", "tiny.brighten"] and session.state["done"]
        assert (session.state["undone"], session.state["turns"]) == (1, 3)
        assert change == pytest.approx(session.state["r_q"] - before["r_q"], abs=1e-4)
        client.open_session(sample).close()


def test_nothing_is_lost_when_the_server_is_stopped_and_started(
    serve_scores: Serving, samples: list[Sample], toolbox: Toolbox
) -> None:
    plans = [("tiny.blur",), ("tiny.darken",), ("tiny.brighten",), ("tiny.identity",)]
    found: dict[int, float] = {}

    def score(number: int) -> None:
        (row,) = client.score([samples[number % 4].spec], [plans[number // 4]])
        found[number] = row.outcome.r_q

    threads = [threading.Thread(target=score, args=(number,)) for number in range(16)]
    with serve_scores(gather_ms=1.0) as (address, _):
        client = ScoringClient(address, retries=100)
        for thread in threads[:8]:
            thread.start()
    for thread in threads[8:]:
        thread.start()
    time.sleep(0.1)
    with serve_scores(port=urlsplit(address).port or 0):
        for thread in threads:
            thread.join()
    scorer = PlanScorer(toolbox, "classic")
    assert sorted(found) == list(range(16))
    for number, r_q in found.items():
        (expected,) = scorer.score([samples[number % 4]], [plans[number // 4]])
        assert r_q == pytest.approx(expected.r_q, abs=1e-4)


def test_a_session_of_a_seed_ends_with_the_factors_of_the_reward(
    serve_scores: Serving, source: Source
) -> None:
    sample = source.make(source.draw(np.random.default_rng(3)))
    labels = sample.degradations or frozenset()
    with serve_scores(tool_cost=0.5) as (address, _):
        client = ScoringClient(address)
        session = client.open_session(3)
        assert session.image.tobytes() == to_pil(observe(Episode(sample), 6).image).tobytes()
        session.step(Decision(("tiny.blur",), labels | {"haze"}, finish=True))
        with pytest.raises(RefusedRequestError, match="expected labels among"):
            client.open_session(3).step(Decision((), frozenset({"fire"})))
    r_d = f1_score(labels | {"haze"}, labels)
    assert session.state["r_d"] == r_d
    assert session.state["total"] == pytest.approx((session.state["r_q"] - 0.5) * r_d)


def test_what_the_server_refuses_is_not_sent_again(serve_scores: Serving, samples: list[Sample]) -> None:
    with serve_scores() as (address, _):
        client = ScoringClient(address)
        with pytest.raises(RefusedRequestError, match=r"HTTP 400, the request: items\[0\]: expected tools"):
            client.score([samples[0].spec], [("no.tool",)])


def test_the_token_comes_from_the_environment(
    serve_scores: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve_scores(token="secret") as (address, _):
        with pytest.raises(RefusedRequestError, match="HTTP 401, expected the token"):
            ScoringClient(address)
        monkeypatch.setenv("OPERA_ENV_TOKEN", "secret")
        assert "tiny.blur" in ScoringClient(address).tool_names


def test_other_servers_and_addresses_are_refused(other_server: str) -> None:
    with pytest.raises(EndpointError, match="expected protocol 1, found 99"):
        ScoringClient(other_server)
    with pytest.raises(EndpointError, match="expected the address of a server"):
        ScoringClient("127.0.0.1:8200")


def test_an_absent_server_is_named() -> None:
    address = "http://127.0.0.1:9"
    with pytest.raises(EndpointError, match=r"no answer after 3 tries.*Is the server running"):
        ScoringClient(address, retries=2)


def test_restored_images_are_eight_bit(serve_scores: Serving, samples: list[Sample]) -> None:
    with serve_scores() as (address, _):
        (row,) = ScoringClient(address).score([samples[3].spec], [("tiny.enlarge",)], restored=True)
    assert row.outcome.restored is not None and row.outcome.restored.dtype == torch.uint8
    assert tuple(row.outcome.restored.shape[-2:]) == samples[3].canvas
