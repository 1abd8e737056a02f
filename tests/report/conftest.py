"""A result of one agent on one sample."""

from __future__ import annotations

import pytest

from opera_env.evaluation.records import Cost
from opera_env.evaluation.results import Result
from opera_env.types import SampleSpec


@pytest.fixture
def result() -> Result:
    return Result(
        benchmark="groups-abc",
        group="A",
        combination="rain+haze",
        spec=SampleSpec("bundled", 0, ("rain", "haze"), image="a.png"),
        input="0" * 64,
        reference="1" * 64,
        toolbox="tiny",
        signature="s",
        fingerprint="f",
        agent="mine",
        plan=("derain",),
        answer=None,
        metrics={"psnr_y": 20.0},
        missing={},
        reward="lite",
        judge="lite",
        r_q=6.0,
        r_q_seen=6.0,
        input_r_q=5.0,
        input_r_q_seen=5.0,
        cost=Cost(0, 0, 0.1),
        settings={},
        versions={"torch": "2"},
    )
