"""The best known plan of each sample with a toolbox, by which scores are normalised."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from opera_env.errors import ResultsError
from opera_env.evaluation.compare import frozen_set
from opera_env.evaluation.judging import Judge
from opera_env.evaluation.records import EvaluationConfig
from opera_env.evaluation.results import Result, spec_digest
from opera_env.evaluation.scorers import CachingScorer
from opera_env.json_files import JsonObject, parse_object
from opera_env.types import Plan, Sample, SampleSpec

SMALLEST_GAIN = 0.1
"""Samples on which the best known plan gains less R_q than this have no normalised score: small differences
would become large ones."""

_REMEDY = "Make the table again with scripts/best_known_plans.py."
_KEYS = ("benchmark", "signature", "fingerprint", "judge")


@dataclass(frozen=True)
class BestPlan:
    """The best known plan of a sample.

    Attributes:
        spec: The specification of the sample.
        plan: The plan.
        r_q: R_q of its result.
        input_r_q: R_q of the input.
    """

    spec: SampleSpec
    plan: Plan
    r_q: float
    input_r_q: float

    def to_json(self) -> dict[str, Any]:
        """Returns a dictionary of JSON types; :meth:`from_json` is its inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> BestPlan:
        """Returns the plan that :meth:`to_json` has written."""
        spec = SampleSpec.from_json(data["spec"])
        return cls(spec, tuple(data["plan"]), data["r_q"], data["input_r_q"])


@dataclass(frozen=True)
class BestPlans:
    """The best known plans of a benchmark with one toolbox, by one reward.

    Attributes:
        benchmark: Name of the benchmark.
        signature: Signature of the toolbox.
        fingerprint: Fingerprint of the toolbox.
        judge: Name of the reward.
        plans: The plan of each sample, by the digest of its specification.
    """

    benchmark: str
    signature: str
    fingerprint: str
    judge: str
    plans: Mapping[str, BestPlan]

    def normalise(self, result: Result) -> float | None:
        """Returns the score of a result between the input (0) and the best known plan (1).

        It is below 0 if the result is worse than the input, and above 1 if its plan is better than the
        best known one. None if the toolbox can do too little for the sample, see :data:`SMALLEST_GAIN`.

        Results of other toolboxes are measured by the same plans, so that scores of two toolboxes can be
        compared.

        Raises:
            ResultsError: If the result is of another benchmark, sample or reward.
        """
        best = self._of_sample(result)
        gain = best.r_q - best.input_r_q
        return None if gain < SMALLEST_GAIN else result.gain / gain

    def regret(self, result: Result) -> float:
        """Returns R_q of the best known plan less that of a result; errors as :meth:`normalise`."""
        return self._of_sample(result).r_q - result.r_q

    def _of_sample(self, result: Result) -> BestPlan:
        """Returns the best known plan of the sample of a result."""
        if (result.benchmark, result.judge) != (self.benchmark, self.judge):
            raise ResultsError(
                f"expected results of {self.benchmark} by {self.judge}, as the best known plans are, found "
                f"{result.benchmark} by {result.judge}: take the table of that benchmark and reward."
            )
        best = self.plans.get(spec_digest(result.spec))
        if best is None:
            raise ResultsError(
                f"no best known plan for {result.combination} of {result.spec.image}: make the table on "
                "the same samples."
            )
        return best


def best_of_sample(
    sample: Sample,
    judge: Judge,
    scorer: CachingScorer,
    config: EvaluationConfig,
    more: Iterable[Plan] = (),
) -> BestPlan:
    """Searches the best plan of a sample: all short plans, a beam search, and the plans that are given.

    Args:
        sample: The sample.
        judge: Judges the best plans alone, as results are judged.
        scorer: Scores all plans by the same reward.
        config: Length of the short plans and width of the beam.
        more: Plans that others have found.
    """
    plans = dict.fromkeys([*frozen_set(sample, scorer, config), *more])
    outcomes = dict(zip(plans, scorer.score([sample] * len(plans), list(plans)), strict=True))
    best = max(plans, key=lambda plan: outcomes[plan].r_q)
    judged, untouched = judge.score(sample, best), judge.score(sample, ())
    return BestPlan(sample.spec, best, judged.r_q, untouched.r_q)


def write_best_plans(best: BestPlans, path: Path) -> None:
    """Writes a table as JSON lines: first what it is of, then one plan a line."""
    head = {key: getattr(best, key) for key in _KEYS}
    lines = [json.dumps(head), *(json.dumps(plan.to_json()) for plan in best.plans.values())]
    path.write_text("\n".join(lines) + "\n")


def read_best_plans(path: Path) -> BestPlans:
    """Reads a table that :func:`write_best_plans` has written.

    Raises:
        ResultsError: If the file is something else.
        OSError: If it cannot be read.
    """
    first, *rows = (
        parse_object(line, f"{path}, line {number}", ResultsError, _REMEDY)
        for number, line in enumerate(path.read_text(errors="replace").splitlines() or [""], 1)
    )
    plans = [_read_plan(row) for row in rows]
    head = {key: first.text(key) for key in _KEYS}
    return BestPlans(**head, plans={spec_digest(plan.spec): plan for plan in plans})


def _read_plan(row: JsonObject) -> BestPlan:
    spec = SampleSpec.from_json(row.mapping("spec"))
    return BestPlan(spec, row.names("plan"), row.number("r_q"), row.number("input_r_q"))
