"""Evaluations: what a result holds, and that it depends on nothing but its toolbox, agent and sample."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from opera_baselines.greedy import Greedy
from opera_env.errors import SampleError, UnknownPresetError
from opera_env.evaluation.benchmarks import EACH_TOOL, Benchmark, image_digest
from opera_env.evaluation.evaluate import evaluate
from opera_env.evaluation.partial import partial_results
from opera_env.evaluation.protocols import ColumnMetrics
from opera_env.evaluation.records import EvaluationConfig
from opera_env.evaluation.results import Result
from opera_env.evaluation.toolbox_runner import ToolboxRunner
from opera_env.reward import REWARD_PRESETS
from opera_env.scoring import PlanScorer
from opera_env.tools import Toolbox
from tests.evaluation.conftest import AGENTS, PSNR, SSIM, Always

Runner = Callable[..., ToolboxRunner]


def without_seconds(results: list[Result]) -> list[dict[str, Any]]:
    return [asdict(replace(result, cost=replace(result.cost, seconds=0.0))) for result in results]


def test_every_agent_has_a_result_on_every_sample(results: list[Result], benchmark: Benchmark) -> None:
    specs = [sample.spec for sample in benchmark.samples]
    assert len(specs) == 32
    for agent in AGENTS:
        assert [result.spec for result in results if result.agent == agent] == specs


def test_a_result_says_what_it_is_of(
    results: list[Result], benchmark: Benchmark, make_toolbox: Callable[[], Toolbox]
) -> None:
    result = next(result for result in results if result.agent == "blur")
    sample = benchmark.make(benchmark.samples[0])
    assert sample.reference is not None
    assert (result.input, result.reference) == (image_digest(sample.lq), image_digest(sample.reference))
    assert (result.group, result.combination) == ("A", "rain+haze")
    assert (result.signature, result.fingerprint) == (
        make_toolbox().signature,
        make_toolbox().fingerprint,
    )
    assert result.plan == ("tiny.blur",)
    assert result.answer == {"reasoning": "It is noisy.", "degradations": None, "error": None}
    assert str(result.versions["torch"]).partition("+")[0] == torch.__version__.partition("+")[0]
    assert result.settings["max_tools"] == 2


def test_r_q_is_that_of_the_scorer(
    results: list[Result], benchmark: Benchmark, make_toolbox: Callable[[], Toolbox]
) -> None:
    scorer = PlanScorer(make_toolbox(), PSNR)
    for result, sample in zip(results, benchmark.samples[:4], strict=False):
        (outcome,) = scorer.score([benchmark.make(sample)], [result.plan])
        assert (result.r_q, result.metrics["psnr_y"]) == (outcome.r_q, outcome.metrics["psnr_y"])


def test_the_gain_of_the_input_is_zero(results: list[Result]) -> None:
    assert {result.gain for result in results if result.agent == "untouched"} == {0.0}
    assert {result.r_q == result.r_q_seen for result in results} == {True}


def test_results_depend_neither_on_the_order_nor_on_other_samples_and_agents(
    results: list[Result], benchmark: Benchmark, make_runner: Runner
) -> None:
    """Bit by bit: parts of the work in another order, as several workers have them, make the same lines."""
    samples = list(benchmark.samples[::4])
    random.Random(0).shuffle(samples)
    parts = [replace(benchmark, samples=tuple(samples[start::3])) for start in range(3)]
    agents = dict(reversed(AGENTS.items()))
    found = [result for part in parts for result in evaluate(part, [make_runner(agents)])]
    order = {(result.agent, result.spec): number for number, result in enumerate(results)}
    found.sort(key=lambda result: order[result.agent, result.spec])
    specs = [sample.spec for sample in samples]
    expected = [result for result in results if result.spec in specs]
    assert without_seconds(found) == without_seconds(expected)


def test_results_do_not_depend_on_the_batches_that_agents_use(
    benchmark: Benchmark, make_runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search scores many plans in one batch; its result is judged alone."""
    part = replace(benchmark, samples=benchmark.samples[1:5])
    expected = evaluate(part, [make_runner({"greedy": Greedy(max_tools=2)})])
    made = PlanScorer.__init__

    def with_small_batches(self: PlanScorer, *args: Any, **options: Any) -> None:
        made(self, *args, **options | {"batch_size": 1})

    monkeypatch.setattr(PlanScorer, "__init__", with_small_batches)
    found = evaluate(part, [make_runner({"greedy": Greedy(max_tools=2)})])
    assert without_seconds(found) == without_seconds(expected)


def test_the_cost_of_an_agent_does_not_depend_on_those_before_it(
    benchmark: Benchmark, make_runner: Runner
) -> None:
    part = replace(benchmark, samples=benchmark.samples[:2])
    searches = {"first": Greedy(max_tools=1), "second": Greedy(max_tools=1)}
    first, other, *_ = (result.cost for result in evaluate(part, [make_runner(searches)])[::2])
    assert (first.images_scored, first.tools_run) == (other.images_scored, other.tools_run)
    assert first.images_scored == 6


def test_an_agent_sees_one_reward_and_is_judged_by_another(
    benchmark: Benchmark, make_runner: Runner
) -> None:
    part = replace(benchmark, samples=benchmark.samples[:3])
    agents = {"greedy": Greedy(max_tools=1)}
    (seen, *_), (judged, *_) = (
        evaluate(part, [make_runner(agents, seen=SSIM, judge=judge)]) for judge in (SSIM, PSNR)
    )
    assert seen.plan == judged.plan
    assert judged.r_q_seen == seen.r_q == pytest.approx(10 * seen.metrics["ssim_y"], abs=1e-5)
    assert judged.r_q == pytest.approx(10 * (judged.metrics["psnr_y"] - 5) / 35, abs=1e-5)
    assert judged.gap == (judged.r_q_seen - judged.input_r_q_seen) - (judged.r_q - judged.input_r_q)


class Interrupted(Always):
    """Is interrupted at its third image."""

    count = 0

    def act(self, observations: Any) -> Any:
        self.count += 1
        if self.count == 3:
            raise KeyboardInterrupt
        return super().act(observations)


class Counted(Always):
    """Counts its images."""

    count = 0

    def act(self, observations: Any) -> Any:
        self.count += len(observations)
        return super().act(observations)


def test_an_interrupted_run_continues(
    benchmark: Benchmark, make_runner: Runner, results: list[Result], tmp_path: Path
) -> None:
    part = replace(benchmark, samples=benchmark.samples[:4])
    agents = AGENTS | {"enlarge": Interrupted(*AGENTS["enlarge"].plan)}
    target = tmp_path / "out.jsonl"
    with pytest.raises(KeyboardInterrupt), partial_results(target, {}) as kept:
        evaluate(part, [make_runner(agents)], kept)
    num_kept = len((tmp_path / "out.jsonl.partial").read_text().splitlines()) - 1
    assert num_kept == 2 * 3 + 2
    agents = {name: Counted(*agent.plan, reasoning=agent.reasoning) for name, agent in AGENTS.items()}
    with partial_results(target, {}, resume=True) as kept:
        found = evaluate(part, [make_runner(agents)], kept)
    assert sum(agent.count for agent in agents.values()) == 4 * 3 - num_kept
    specs = [sample.spec for sample in part.samples]
    expected = [result for result in results if result.spec in specs]
    assert without_seconds(found) == without_seconds(expected)


def test_another_image_than_that_of_the_benchmark_is_an_error(
    benchmark: Benchmark, make_runner: Runner
) -> None:
    sample = replace(benchmark.samples[0], input="0" * 64)
    with pytest.raises(SampleError, match=r"expected the degraded image 000000000000\.\.\., found"):
        evaluate(replace(benchmark, samples=(sample,)), [make_runner()])


def test_a_name_that_is_no_agent_costs_no_time(make_runner: Runner) -> None:
    with pytest.raises(UnknownPresetError, match="nobody"):
        make_runner(["untouched", "nobody"])


def test_each_tool_runs_on_what_it_is_for(
    benchmark_of: Callable[..., Benchmark], make_runner: Runner, toolbox: Toolbox
) -> None:
    runner = make_runner([EACH_TOOL], toolbox)
    assert runner.agent_names == tuple(f"single:{name}" for name in toolbox.names)
    for sample in benchmark_of("single", n=1).samples:
        tools = [tool.name for tool in toolbox if sample.combination in tool.degradations]
        assert runner.agents_for(sample) == [f"single:{name}" for name in tools]
    (clean, *_) = benchmark_of("misuse").samples
    assert len(runner.agents_for(clean)) == len(toolbox)


def test_photographs_without_reference_say_why_columns_are_empty(
    benchmark_of: Callable[..., Benchmark], make_runner: Runner, photos: Path
) -> None:
    piqe = REWARD_PRESETS["no_reference"]
    benchmark = benchmark_of("rtts", hq=None, lq=photos, n=1, canvas=64)
    (result,) = evaluate(benchmark, [make_runner({"untouched": Always()}, seen=piqe, judge=piqe)])
    assert result.reference is None
    assert result.missing["psnr_y"] == "no reference"
    assert set(result.metrics) == {"niqe32", "piqe"}
    assert result.combination == "haze"


def test_results_say_with_which_budget_an_agent_ran(
    benchmark: Benchmark, make_toolbox: Callable[[], Toolbox], columns: ColumnMetrics
) -> None:
    few = replace(benchmark, samples=benchmark.samples[:2])
    for budget in (None, 3):
        config = EvaluationConfig(PSNR, max_tools=2, budget=budget)
        runner = ToolboxRunner("tiny", make_toolbox(), ["greedy"], config, PSNR, columns)
        results = evaluate(few, [runner])
        assert [result.settings.get("budget") for result in results] == [budget] * 2
        assert all(result.cost.tools_run >= 5 for result in results) == (budget is None)
        assert all(result.cost.tools_run <= (budget or 10) for result in results)


BUDGETS = (1, 3, 8)
SEARCHES = ["greedy", "greedy-blind", "agenticir-blind", "qagent", "mcts:uniform", "untouched"]


def test_several_budgets_give_the_results_of_each_alone(
    benchmark: Benchmark, make_toolbox: Callable[[], Toolbox], columns: ColumnMetrics
) -> None:
    """With less work: a search with a smaller budget reuses the outcomes of the largest one."""
    few = replace(benchmark, samples=benchmark.samples[:2])

    def run(*budgets: int) -> tuple[list[Result], int]:
        toolbox, config = make_toolbox(), EvaluationConfig(PSNR, max_tools=3)
        runner = ToolboxRunner("tiny", toolbox, SEARCHES, config, PSNR, columns, budgets)
        results = evaluate(few, [runner])
        scorers = {id(scorer): scorer for scorer in runner.scorers.values()}
        return results, sum(scorer.tools_run for scorer in scorers.values())

    together, tools_together = run(*BUDGETS)
    alone, tools_alone = zip(*(run(budget) for budget in BUDGETS), strict=True)
    expected = [result for results in alone for result in results]
    expected.sort(key=lambda result: SEARCHES.index(result.agent))
    assert without_seconds(together) == without_seconds(expected)
    assert tools_together < sum(tools_alone)
    for result in together:
        assert result.budget in BUDGETS and result.cost.tools_run <= (result.budget or 0)
        assert result.cost.images_scored <= result.cost.tools_run + 1
        assert (result.cost.seconds > 0) and len(result.plan) <= 3


def test_several_budgets_are_continued_after_an_interruption(
    benchmark: Benchmark, make_toolbox: Callable[[], Toolbox], columns: ColumnMetrics, tmp_path: Path
) -> None:
    """Results of a work item of which some are missing are computed anew, and the kept ones stay."""
    few = replace(benchmark, samples=benchmark.samples[:2])
    config = EvaluationConfig(PSNR, max_tools=2)

    def make() -> ToolboxRunner:
        return ToolboxRunner("tiny", make_toolbox(), ["greedy"], config, PSNR, columns, (1, 4))

    with partial_results(tmp_path / "all.jsonl", {}) as kept:
        results = evaluate(few, [make()], kept)
        lines = {key: kept.get(key) for sample in few.samples for key in make().keys("greedy", sample)}
    assert len(lines) == len(results) == 4
    with partial_results(tmp_path / "some.jsonl", {}) as kept:
        for key in list(lines)[:3]:
            kept.save(key, lines[key])
        assert without_seconds(evaluate(few, [make()], kept)) == without_seconds(results)
        assert all(kept.get(key) for key in lines)
