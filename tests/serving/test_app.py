"""The scoring server over HTTP: scores, sessions, statuses, limits, the token and what it counts."""

from __future__ import annotations

import base64
import io
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image

from opera_env.data.images import to_array, to_pil
from opera_env.reward import f1_score
from opera_env.scoring import PlanScorer
from opera_env.serving.messages import encode_image
from opera_env.tools import Toolbox
from opera_env.types import Sample
from tests.serving.conftest import Serving

GOOD = "<think>Grainy.</think><degradation>['noise']</degradation><answer>['tiny.blur']</answer>"


def post(address: str, path: str, content: Any, status: int = 200, **options: Any) -> dict[str, Any]:
    response = requests.post(address + path, json=content, timeout=60, **options)
    assert response.status_code == status, response.text
    return response.json()


def near(score: float) -> Any:
    """The rounding errors of a score depend on what it was batched with."""
    return pytest.approx(score, abs=1e-4)


def item(sample: Sample, *plan: str) -> dict[str, Any]:
    return {"spec": sample.spec.to_json(), "plan": list(plan)}


def test_scores_are_those_of_the_scorer(
    serve_scores: Serving, samples: list[Sample], toolbox: Toolbox
) -> None:
    plan = ("tiny.blur", "tiny.darken")
    with serve_scores() as (address, _):
        answer = post(address, "/score", {"items": [item(each, *plan) for each in samples]})
    expected = PlanScorer(toolbox, "classic").score(samples, [plan] * len(samples))
    for row, outcome, sample in zip(answer["results"], expected, samples, strict=True):
        assert row["r_q"] == row["reward"] == near(outcome.r_q) and row["metrics"] == near(outcome.metrics)
        assert sum(row["terms"].values()) == pytest.approx(outcome.r_q) and row["num_tools"] == 2
        assert row["degradations"] == sorted(sample.degradations or ())
        assert "restored" not in row and "total" not in row


def test_answers_in_words_have_the_factors_of_the_reward(
    serve_scores: Serving, samples: list[Sample]
) -> None:
    sample = samples[2]
    items = [{"spec": sample.spec.to_json(), "answer": text} for text in (GOOD, "I would blur it.")]
    with serve_scores(tool_cost=0.5) as (address, _):
        good, bad = post(address, "/score", {"items": items})["results"]
        (plan,) = post(address, "/score", {"items": [item(sample, "tiny.blur")]})["results"]
    r_d = f1_score(frozenset({"noise"}), sample.degradations or frozenset())
    assert good["plan"] == ["tiny.blur"] and (good["r_f"], good["r_d"]) == (1.0, r_d)
    assert plan["reward"] == plan["r_q"] - 0.5 and good["reward"] == near(plan["reward"])
    assert good["total"] == pytest.approx(good["reward"] * r_d)
    assert (bad["r_f"], bad["r_d"], bad["r_q"], bad["total"]) == (0.0, 0.0, 0.0, 0.0)
    assert bad["error"].startswith("expected <think>") and bad["metrics"] == {}


def test_images_may_be_sent_and_come_back(
    serve_scores: Serving, samples: list[Sample], toolbox: Toolbox
) -> None:
    sample = samples[0]
    assert sample.reference is not None
    images = {"image": encode_image(sample.lq), "reference": encode_image(sample.reference)}
    request = {"items": [images | {"plan": ["tiny.darken"]}], "restored": True}
    with serve_scores() as (address, _):
        (row,) = post(address, "/score", request)["results"]
    (expected,) = PlanScorer(toolbox, "classic").score([sample], [("tiny.darken",)])
    assert expected.restored is not None and row["degradations"] is None
    found = np.asarray(Image.open(io.BytesIO(base64.b64decode(row["restored"]))))
    assert np.array_equal(found, to_array(expected.restored)) and row["r_q"] == near(expected.r_q)


def test_a_session_applies_takes_back_and_finishes(
    serve_scores: Serving, samples: list[Sample], toolbox: Toolbox
) -> None:
    sample = samples[0]
    plans = [(), ("tiny.darken",), ("tiny.brighten", "tiny.blur")]
    r_q = [outcome.r_q for outcome in PlanScorer(toolbox, "classic").score([sample] * 3, plans)]
    with serve_scores(max_tools=4) as (address, service):
        opened = post(address, "/sessions", {"spec": sample.spec.to_json()})
        name = opened["session"]
        assert opened["r_q"] == near(r_q[0]) and opened["steps_left"] == 4 and not opened["done"]
        assert opened["image"] == encode_image(sample.lq)
        first = post(address, "/step", {"session": name, "tools": ["tiny.darken"]})
        assert first["r_q"] == near(r_q[1]) and first["reward_change"] == near(r_q[1] - r_q[0])
        turn = {"session": name, "undo": 1, "tools": ["tiny.brighten", "tiny.blur"]}
        second = post(address, "/step", turn)
        assert second["plan"] == list(plans[2]) and second["r_q"] == near(r_q[2])
        assert (second["steps_left"], second["undone"], second["turns"]) == (1, 1, 2)
        assert (
            "expected to take back at most"
            in post(address, "/step", {"session": name, "undo": 3}, 400)["error"]
        ), "nothing has changed"
        last = post(address, "/step", {"session": name, "finish": True})
        assert last["done"] and last["reward_change"] == 0.0 and len(service.sessions) == 0
        assert "Open another" in post(address, "/step", {"session": name}, 404)["error"]


def test_a_turn_that_is_sent_twice_is_taken_once(serve_scores: Serving, samples: list[Sample]) -> None:
    with serve_scores() as (address, service):
        name = post(address, "/sessions", {"spec": samples[0].spec.to_json()})["session"]
        turn = {"session": name, "tools": ["tiny.darken"], "turn": 0}
        first, again = post(address, "/step", turn), post(address, "/step", turn)
        assert first == again and again["plan"] == ["tiny.darken"] and service.scorer.tools_run == 1
        assert "the turn 1" in post(address, "/step", turn | {"turn": 2}, 400)["error"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "expected the key 'items'"),
        ({"items": []}, "at least one item"),
        ({"items": [{"plan": []}]}, "expected the key 'spec'"),
        ({"items": [{"spec": {"source": "x"}, "plan": []}]}, "not a sample specification"),
        ({"items": [{"spec": {"source": "x", "index": 0}, "plan": []}]}, "source"),
        ({"items": [{"image": "AAAA", "plan": []}]}, "PNG file in base64"),
        ({"items": [{"image": "not base64", "plan": []}]}, "PNG file in base64"),
    ],
)
def test_requests_that_cannot_be_used_are_named(serve_scores: Serving, content: Any, message: str) -> None:
    with serve_scores() as (address, _):
        assert message in post(address, "/score", content, 400)["error"]
        response = requests.post(f"{address}/score", data=b"{", timeout=60)
        assert response.status_code == 400 and "expected JSON" in response.text


def test_plans_that_cannot_run_are_named(
    serve_scores: Serving, samples: list[Sample], toolbox: Toolbox
) -> None:
    toolbox.add("tiny.fails", lambda image: image[..., 1:])
    with serve_scores(max_tools=2) as (address, _):
        unknown = post(address, "/score", {"items": [item(samples[0], "no.tool")]}, 400)
        assert "'no.tool'" in unknown["error"] and "tiny.blur" in unknown["error"]
        long = post(address, "/score", {"items": [item(samples[0], *["tiny.blur"] * 3)]}, 400)
        assert "at most 2 tools" in long["error"]
        failed = post(address, "/score", {"items": [item(samples[0], "tiny.fails")]}, 422)
        assert "'tiny.fails' failed" in failed["error"]


def test_images_and_bodies_have_limits(serve_scores: Serving, samples: list[Sample]) -> None:
    sample = samples[0]
    image = encode_image(sample.lq)
    grey = io.BytesIO()
    to_pil(sample.lq).convert("L").save(grey, "PNG")
    with serve_scores(max_pixels=64 * 64 + 1, max_plans=4) as (address, _):
        assert post(address, "/score", {"items": [{"image": image, "reference": image, "plan": []}]}, 400)[
            "error"
        ].startswith("the request: items[0]: expected images with at most 1 more pixels")
        modes = {"items": [{"image": base64.b64encode(grey.getvalue()).decode(), "plan": []}]}
        assert "8-bit RGB" in post(address, "/score", modes, 400)["error"]
        assert "at most 4 objects" in post(address, "/score", {"items": [item(sample)] * 5}, 400)["error"]
        large = requests.post(f"{address}/score", data=b" " * (1 << 20), timeout=60)
        assert large.status_code == 413 and "--max-pixels" in large.text


def test_sessions_have_a_limit(serve_scores: Serving, samples: list[Sample]) -> None:
    spec = {"spec": samples[0].spec.to_json()}
    with serve_scores(max_sessions=1) as (address, _):
        name = post(address, "/sessions", spec)["session"]
        refused = requests.post(f"{address}/sessions", json=spec, timeout=60)
        assert refused.status_code == 429 and refused.headers["retry-after"] == "1"
        assert "--max-sessions" in refused.text
        post(address, "/sessions/close", {"session": name})
        post(address, "/sessions", spec)


def test_the_queue_has_a_limit(
    serve_scores: Serving, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, may_end = threading.Event(), threading.Event()
    with serve_scores(max_queue=1) as (address, service):
        score = service.scorer.score

        def wait_and_score(*args: Any, **options: Any) -> Any:
            begun.set()
            may_end.wait(60)
            return score(*args, **options)

        monkeypatch.setattr(service.scorer, "score", wait_and_score)
        request = {"items": [item(samples[0])]}
        calls = [threading.Thread(target=post, args=(address, "/score", request)) for _ in range(2)]
        calls[0].start()
        begun.wait(60)
        calls[1].start()
        while not service.gatherer.waiting:
            time.sleep(0.01)
        full = requests.post(f"{address}/score", json=request, timeout=60)
        assert full.status_code == 503 and full.headers["retry-after"] == "1"
        assert "--max-queue" in full.text
        may_end.set()
        for call in calls:
            call.join()


def test_a_call_that_takes_too_long_ends(serve_scores: Serving, samples: list[Sample]) -> None:
    with serve_scores(timeout=0.05, gather_ms=500.0) as (address, _):
        assert "--timeout" in post(address, "/score", {"items": [item(samples[0])]}, 504)["error"]


def test_a_call_that_the_end_of_the_server_cuts_off_may_be_repeated(
    serve_scores: Serving, samples: list[Sample]
) -> None:
    """The server of this test waits a second for calls that have begun."""
    responses: list[requests.Response] = []

    def call(address: str) -> None:
        body = {"items": [item(samples[0])]}
        responses.append(requests.post(f"{address}/score", json=body, timeout=60))

    with serve_scores(gather_ms=60_000.0) as (address, service):
        thread = threading.Thread(target=call, args=(address,))
        thread.start()
        while not service.gatherer.waiting:
            time.sleep(0.01)
    thread.join()
    assert responses[0].status_code == 503 and "told to end" in responses[0].json()["error"]


def test_only_those_with_the_token_are_served(serve_scores: Serving) -> None:
    with serve_scores(token="secret") as (address, _):
        for headers in ({}, {"Authorization": "Bearer secre"}, {"Authorization": "Bearer sécret"}):
            encoded = {name: value.encode("latin-1") for name, value in headers.items()}
            for path in ("/", "/metrics"):
                assert requests.get(address + path, headers=encoded, timeout=60).status_code == 401
            post(address, "/score", {}, 401, headers=encoded)
        known = {"Authorization": "Bearer secret"}
        assert requests.get(address, headers=known, timeout=60).json()["protocol"] == 1
        assert requests.get(f"{address}/health", timeout=60).json() == {"status": "ok"}


def test_other_names_of_this_machine_are_refused(serve_scores: Serving) -> None:
    with serve_scores() as (address, _):
        headers = {"Host": "evil.example"}
        assert requests.get(address, headers=headers, timeout=60).status_code == 400
        assert "classic" in requests.get(address, timeout=60).text


def test_requests_and_batches_are_counted(serve_scores: Serving, samples: list[Sample]) -> None:
    with serve_scores() as (address, _):
        post(address, "/score", {"items": [item(samples[0], "tiny.blur"), item(samples[1])]})
        post(address, "/score", {}, 400)
        post(address, "/sessions", {"spec": samples[0].spec.to_json()})
        text = requests.get(f"{address}/metrics", timeout=60).text
    counts = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(counts['opera_env_requests_total{path="/score",status="200"}']) == 1
    assert float(counts['opera_env_requests_total{path="/score",status="400"}']) == 1
    assert float(counts["opera_env_batch_plans_sum"]) == 3
    assert float(counts["opera_env_open_sessions"]) == 1
    assert float(counts["opera_env_tools_run_total"]) == 1


def test_the_description_names_no_folder(serve_scores: Serving, photos: Path) -> None:
    with serve_scores() as (address, _):
        assert str(photos.parent) not in requests.get(address, timeout=60).text
